"""The transport to the helper of another host: ssh, with the key and the options that root chose.

Does not run as root. What comes from another host is untrusted: it is limited in size and rate.
"""

from collections.abc import Callable, Sequence
from typing import Final

from hkswitch.backend import ssh_reasons
from hkswitch.backend.attempts import Attempts
from hkswitch.backend.child_pipes import ChildPipes, start
from hkswitch.backend.helper_session import HelperSession, Terms
from hkswitch.backend.paced_input import Pace
from hkswitch.backend.ssh_command import CONNECT_TIMEOUT_SECONDS, SSH_CONFIG, ssh_command
from hkswitch.backend.ssh_reasons import SshProblem
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.protocol.helper_dialect import SPOKEN

PACE: Final = Pace(burst_bytes=4 * 2**20, bytes_per_second=256 * 2**10, burst_lines=4000, lines_per_second=50)
"""The first reports of 149 groups with 128 units each are 1.3 MiB in 500 lines; later ones are few."""

LONGEST_LINE_BYTES: Final = 256 * 2**10
MOST_VALUES: Final = 8000
"""In a line, of which samples have five for a unit: none takes longer to parse than a tap may wait."""

SAMPLE_SECONDS: Final = 5
"""A third of the interval at which helpers measure."""

SILENCE_SECONDS: Final = 4
"""Twice this and the end of ssh are within the ten seconds in which a cut must show."""

HANDSHAKE_SECONDS: Final = 20
"""The time limit for a host that is slow, after one that took its connection has not answered in time."""

AWAY_PAUSE_SECONDS: Final = 0.5
"""A host that comes back must be seen within three seconds."""

LONG_AWAY_PAUSE_SECONDS: Final = 5
LONG_AWAY_ATTEMPTS: Final = 200
"""Some ten minutes, in which a host that is away takes 0.2 s of a processor a minute, and then a third."""

REFUSED_PAUSE_SECONDS: Final = 600
"""More attempts with a key that is refused could make that host block this one (fail2ban)."""

CHANGED_PAUSE_SECONDS: Final = 2
SETTING_PAUSES_SECONDS: Final = (1, 2, 5, 10, 30)
CLOSED_PAUSES_SECONDS: Final = (0.5, 1, 2, 5, 10, 30)


CommandFor = Callable[[RemoteHost, int], Sequence[str]]
"""Returns the argv that reaches a host's helper, with this time limit in seconds for the handshake."""


def command_for(host: RemoteHost, connect_timeout_seconds: int) -> Sequence[str]:
    """Return the command of ssh; root's own settings count from the next attempt on."""
    return ssh_command(
        host.name,
        host.ssh,
        has_config=SSH_CONFIG.exists(),
        connect_timeout_seconds=connect_timeout_seconds,
    )


class SshTransport:
    """The transport to the helper of one host."""

    def __init__(
        self, host: RemoteHost, command_for: CommandFor = command_for, attempts: Attempts | None = None
    ) -> None:
        """Does not connect yet. Another `command_for` stands for ssh in tests; all hosts share `attempts`."""
        self._host = host
        self._command_for = command_for
        self._attempts = attempts or Attempts()
        self._shared_pause_seconds = 0.0
        self._is_slow = False
        self._closed_in_a_row = 0
        self._session: HelperSession | None = None

    @property
    def terms(self) -> Terms:
        """What is expected of the helper."""
        return Terms(
            host=self._host.name,
            ready_within_seconds=HANDSHAKE_SECONDS + SILENCE_SECONDS,
            silence_seconds=SILENCE_SECONDS,
            protocols=SPOKEN,
            wrong_protocol="its protocol is too different; upgrade the older one",
            longest_line_bytes=LONGEST_LINE_BYTES,
            most_values=MOST_VALUES,
            sample_interval_seconds=SAMPLE_SECONDS,
        )

    async def open(self, session: HelperSession) -> ChildPipes:
        """Start ssh; raises `HelperGone`."""
        self._session = session
        self._shared_pause_seconds = await self._attempts.turn()
        within_seconds = HANDSHAKE_SECONDS if self._is_slow else CONNECT_TIMEOUT_SECONDS
        # TRUST: crosses to another host, whose sshd runs its own forced command and nothing else. What comes
        # back is limited by PACE and by the terms, and only protocol/helper_replies.py reads it.
        command = self._command_for(self._host, within_seconds)
        # A jump host has a process of its own, which would wait for minutes on a dead network.
        return await start(command, ChildPipes(session, ssh_reasons.telling_line, PACE, has_children=True))

    def pause_seconds(self, why_gone: str, attempt: int) -> float:
        """Return how long to wait before the next attempt."""
        return max(self._own_pause_seconds(why_gone, attempt), self._shared_pause_seconds)

    def _own_pause_seconds(self, why_gone: str, attempt: int) -> float:
        """Return how long to wait, as if there were no other hosts."""
        self._is_slow = ssh_reasons.is_slow_handshake(why_gone)
        problem = ssh_reasons.problem_of(why_gone)
        if problem is SshProblem.CLOSED and self._has_answered():
            problem = SshProblem.AWAY  # it took our key
        before = self._closed_in_a_row if attempt else 0  # there was a good connection
        self._closed_in_a_row = before + 1 if problem is SshProblem.CLOSED else 0
        match problem:
            case SshProblem.REFUSED_KEY:
                return REFUSED_PAUSE_SECONDS
            case SshProblem.CHANGED_HOST_KEY:
                return CHANGED_PAUSE_SECONDS if attempt < LONG_AWAY_ATTEMPTS else LONG_AWAY_PAUSE_SECONDS
            case SshProblem.SETTING:
                return SETTING_PAUSES_SECONDS[min(attempt, len(SETTING_PAUSES_SECONDS) - 1)]
            case SshProblem.CLOSED:
                # A host that boots ends a connection or two. OpenSSH 9.8 and later block an address whose
                # connections fail again and again.
                return CLOSED_PAUSES_SECONDS[min(self._closed_in_a_row, len(CLOSED_PAUSES_SECONDS)) - 1]
            case SshProblem.AWAY:
                return AWAY_PAUSE_SECONDS if attempt < LONG_AWAY_ATTEMPTS else LONG_AWAY_PAUSE_SECONDS

    def _has_answered(self) -> bool:
        """Tell whether the last connection reached a helper."""
        hello = None if self._session is None else self._session.hello
        return hello is not None and hello.done() and not hello.cancelled() and hello.exception() is None

    def explain(self, why_gone: str) -> str:
        """Return one sentence for the log: why the connection is gone, and what to do."""
        return ssh_reasons.explain(why_gone, self._host.name).replace("DESTINATION", self._host.ssh)

    def hint(self, why_gone: str) -> str:
        """Return the cause and the remedy; empty if they are unknown."""
        return ssh_reasons.hint(why_gone, self._host.name).replace("DESTINATION", self._host.ssh)
