"""The CPU time of one run of a simulated unit, from how many cores it used when. Pure."""

from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class CpuMeter:
    """A counter that begins at zero with each run."""

    cores: float = 0
    """Used now."""
    _used_seconds: float = 0
    _at_seconds: float = 0

    def reset(self, now_seconds: float) -> None:
        """Begin at zero."""
        self._used_seconds, self._at_seconds = 0, now_seconds

    def run(self, now_seconds: float, cores: float) -> None:
        """Use so many cores from now on."""
        self._used_seconds, self._at_seconds = self.used_seconds(now_seconds), now_seconds
        self.cores = cores

    def used_seconds(self, now_seconds: float) -> float:
        """The CPU time until now."""
        return self._used_seconds + self.cores * (now_seconds - self._at_seconds)
