"""Who may speak to the helper."""

import pytest

from hkswitch.model.errors import Exit, Failure
from hkswitch.serviceswitch.requester import Source, admit

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
