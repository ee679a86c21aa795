"""Root's policy, from a file that only root can write, and the audit of each decision. Runs as root."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from hkswitch.model.config import Config, parse
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.group import Argv, Group
from hkswitch.model.unit_state import Action, UnitResult, failure_of
from hkswitch.protocol.helper import CONFIG_CHANGED
from hkswitch.serviceswitch import trusted_files
from hkswitch.serviceswitch.audit import Audit, Denial, Effect

CUT_SHORT: Final = "the helper exited first; jobs that are queued, and what an engine has begun, go on"

NOT_BEGUN: Final = "not carried out: the helper exited"

ALERT: Final = "alert"
"""Beside the actions, what the daemon may request for a group: to run the alert command."""

Results = tuple[UnitResult, ...]


class Refusal(Failure):
    """A request that the policy does not allow."""

    exit_code = Exit.DENIED


class Allowed(NamedTuple):
    """Permission to act on exactly the units of this group, or by its commands."""

    group: Group


class Denied(NamedTuple):
    """A denial and its reason."""

    reason: str


def permit(action: Action | str, group_id: str, token: str | None, config: Config) -> Allowed | Denied:
    """Decide whether the config allows `action`, or `ALERT`, on the group `group_id`. Pure: no I/O.

    `token` stands for the group as the caller knows it; None accepts the group as it is.
    """
    group = config.group(group_id)
    if group is None:
        return Denied(f"there is no group {group_id!r} in the configuration")
    if token is not None and token != group.token:
        return Denied(CONFIG_CHANGED)
    if group.elsewhere is not None and action != ALERT:
        return Denied(f"{group_id} is {group.elsewhere}; use `hkswitch {action} {group_id}`")
    if action in group.actions or (action == ALERT and group.alert and config.alert_command):
        return Allowed(group)
    if action == ALERT:
        return Denied("the configuration has no 'alert' for this group, or no 'alert_command'")
    return Denied(f"{action} is not in this group's actions")


class TrustedConfig:
    """The config as root reads it, after each request arrived, so that changes to the file count at once."""

    def __init__(
        self,
        file: str,
        read: Callable[[str], bytes],
        examine: Callable[[str], None] = trusted_files.program,
        admit: Callable[[Config], None] = lambda _: None,
        is_root: Callable[[str], bool] = trusted_files.is_root,
    ) -> None:
        """`read` returns the contents of `file`, `examine` checks a program, and `admit` the caller.

        Each of them raises if it refuses, and so does `is_root`, for a user that does not exist.
        """
        self._file = file
        self._admit = admit
        self._examine = examine
        self._is_root = is_root
        self._read = read
        self._contents: bytes | None = None
        self._config: Config | None = None
        self.problem = ""
        """Why the file was refused when it was last read; empty if it was accepted."""

    def read(self) -> Config:
        """Return the current config; raises `Untrusted`, `NotThere`, `ConfigError` or what `admit` raises."""
        contents = self._read(self._file)
        if self._config is None or contents != self._contents:
            config = parse(contents, self._file)
            self._admit(config)
            self._config, self._contents = config, contents
        return self._config

    def share_reads(self) -> None:
        """From now on, read the file once for requests that have arrived together; needs an event loop."""
        self._read = trusted_files.SharedRead(self._read)

    def examine(self, group: Group, program: str) -> None:
        """Refuse a program that root would run, and that others can have written; raises `Untrusted`."""
        # TRUST: what runs as another user gets that user's rights and no more, so root need not trust the
        # file; in fact the helper may not even see it. Any name of root's counts as root.
        if group.runs_as_root or self._is_root(group.user):
            self._examine(program)

    def last_valid(self) -> Config | None:
        """Return the current config or, if it is refused, the last accepted one; sets `problem`."""
        try:
            self.read()
        except Failure as failure:
            self.problem = str(failure)
        else:
            self.problem = ""
        return self._config


async def _admit_root() -> None:
    """Admit root's own command line."""


@dataclass(slots=True)
class ActionRecord:
    """The audit record of an allowed action."""

    results: Results = ()
    is_superseded: bool = False
    """Whether a newer request replaced it, which is no failure."""


class Policy(NamedTuple):
    """The policy, which decides on requests and audits each decision and its outcome."""

    config: TrustedConfig
    audit: Audit
    admit: Callable[[], Awaitable[None]] = _admit_root
    """Awaited before each decision; raises if the caller is no longer admitted."""
    has_alerts: bool = True
    """Whether the caller is this host's daemon: those of other hosts have alert commands of their own."""

    def allowed(
        self, action: Action, group_id: str, token: str | None = None, *, by_rule: bool = False
    ) -> Group:
        """Return the group if the action is allowed on it; audits a denial.

        Args:
            action: The requested action.
            group_id: The group's id in the config.
            token: Stands for the group as the caller knows it; None accepts the group as it is.
            by_rule: Whether a rule requests it, for the audit.

        Raises `Refusal`, or the error for an invalid config or an untrusted program.
        """
        with self._auditing_denials(action, group_id, by_rule=by_rule):
            group = _group_of(permit(action, group_id, token, self.config.read()))
            for program in group.programs_of(action):
                self.config.examine(group, program)
            return group

    def alert_command(self, group_id: str, token: str) -> Argv:
        """Return the alert command if it may run for a group; raises and audits like `allowed`."""
        with self._auditing_denials(ALERT, group_id):
            if not self.has_alerts:
                raise Refusal("the alert command is not for bridges of other hosts")
            config = self.config.read()
            _group_of(permit(ALERT, group_id, token, config))
            return config.alert_command

    @asynccontextmanager
    async def audited(
        self, action: str, group_id: str, *, by_rule: bool = False
    ) -> AsyncIterator[ActionRecord]:
        """Record the decision before the action, and the outcome after it, however it ends.

        If this raises `NotRecorded`, or what `admit` raises, the action must not be carried out.
        """
        try:
            await self.admit()
            decision = await self.audit.decided(action, group_id, by_rule=by_rule)
        except (Failure, asyncio.CancelledError) as failure:  # the decision may be in the journal
            self.audit.denied(Denial(str(failure) or NOT_BEGUN, action, group_id, by_rule=by_rule))
            raise
        began_seconds, record, failed = _now_seconds(), ActionRecord(), CUT_SHORT
        try:
            yield record
            failed = "" if record.is_superseded else failure_of(record.results) or ""
        except Failure as failure:
            failed = str(failure)
            raise
        finally:
            took_ms = round((_now_seconds() - began_seconds) * 1000)
            self.audit.ended(Effect(decision, failed, record.results, took_ms))

    @contextmanager
    def _auditing_denials(self, action: str, group_id: str, *, by_rule: bool = False) -> Iterator[None]:
        try:
            yield
        except Failure as failure:
            self.audit.denied(Denial(str(failure), action, group_id, by_rule=by_rule))
            raise


def _group_of(decision: Allowed | Denied) -> Group:
    """Return the group of a permission; raises `Refusal`."""
    if isinstance(decision, Denied):
        raise Refusal(decision.reason)
    return decision.group


def _now_seconds() -> float:
    return asyncio.get_running_loop().time()
