"""Who may speak to the helper."""

import pytest

from hkswitch.model.errors import Exit, Failure
from hkswitch.model.unit_state import Crossing
from hkswitch.serviceswitch.execute import Refusal
from hkswitch.serviceswitch.requester import Source, admit, admit_by_config

PIPE = Source(is_pipe=True)


@pytest.mark.parametrize(
    ("source", "daemon_uid"),
    [(PIPE, 990), (PIPE, None), (Source(peer_uid=990), 990)],
    ids=str,
)
def test_a_pipe_and_the_daemons_connection_are_let_through(source: Source, daemon_uid: int | None) -> None:
    admit(source, daemon_uid)


@pytest.mark.parametrize(
    ("source", "daemon_uid", "code"),
    [
        (Source(), 990, Exit.USAGE),
        (Source(), None, Exit.USAGE),
        (Source(peer_uid=0), 990, Exit.DENIED),  # root has the command line
        (Source(peer_uid=1000), 990, Exit.DENIED),
        (Source(peer_uid=65534), 990, Exit.DENIED),
        (Source(peer_uid=990), None, Exit.DENIED),
        (Source(peer_uid=0), None, Exit.DENIED),
    ],
    ids=str,
)
def test_nobody_else_is(source: Source, daemon_uid: int | None, code: Exit) -> None:
    with pytest.raises(Failure) as refused:
        admit(source, daemon_uid)
    assert refused.value.exit_code is code


DAEMON, OTHER = 990, 1000


@pytest.mark.parametrize(
    ("source", "by_uid", "helper"),
    [
        (PIPE, DAEMON, "sudo"),
        (PIPE, OTHER, "socket"),  # a rule of the administrator's own
        (PIPE, 0, "socket"),
        (Source(peer_uid=DAEMON), DAEMON, "socket"),
        (Source(peer_uid=DAEMON), DAEMON, "sudo"),
    ],
    ids=str,
)
def test_a_way_that_the_config_leaves_open_is_open(source: Source, by_uid: int, helper: str) -> None:
    admit_by_config(source, by_uid, DAEMON, Crossing(helper))


def test_a_pipe_of_the_daemons_user_is_refused_where_the_config_names_the_socket() -> None:
    with pytest.raises(Refusal, match="`helper: socket`"):
        admit_by_config(PIPE, DAEMON, DAEMON, Crossing.SOCKET)
