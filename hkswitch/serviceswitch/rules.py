"""The config as root reads it, and the programs in it: trusted anew for every request. Runs as root."""

from collections.abc import Callable

from hkswitch.model.config import Config, parse
from hkswitch.model.errors import Failure
from hkswitch.serviceswitch import trusted_files


class Rules:
    """What root allows right now: a change of the file takes effect with the next request."""

    def __init__(
        self,
        file: str,
        read: Callable[[str], bytes],
        examine: Callable[[str], None] = trusted_files.program,
        admit: Callable[[Config], None] = lambda _: None,
    ) -> None:
        """`read` returns the contents of `file` or refuses to, `examine` programs, `admit` the caller."""
        self._file = file
        self._admit = admit
        self.examine = examine
        self._read = read
        self._contents: bytes | None = None
        self._config: Config | None = None
        self.problem = ""
        """Why the file was not believed when it was looked at last; empty if it was."""

    def now(self) -> Config:
        """The config as it is now; raises `Untrusted`, `NotThere`, `ConfigError` or what `admit` does."""
        contents = self._read(self._file)
        if self._config is None or contents != self._contents:
            config = parse(contents, self._file)
            self._admit(config)
            self._config, self._contents = config, contents
        return self._config

    def believed(self) -> Config | None:
        """The config as it is now or, if that is not to be believed, as it was last; sets `problem`."""
        try:
            self.now()
        except Failure as failure:
            self.problem = str(failure)
        else:
            self.problem = ""
        return self._config
