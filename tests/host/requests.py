"""The requests that a daemon makes: each with the token that its group has in the config."""

from typing import Final

from hkswitch.model.config import parse
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Request, encode_message
from tests.host.machine import Host

FILE: Final = "/etc/hkswitch/config.yaml"


def request(host: Host, number: int, action: str, group: str) -> str:
    """A line that asks for an action on a group, as the host's config has it now."""
    return request_by(host.read(FILE), number, action, group)


def request_by(config: str, number: int, action: str, group: str) -> str:
    """The same by the text of a config."""
    found = parse(config.encode(), FILE).group(group)
    assert found is not None
    return encode_message(Request(number, Action(action), group, found.token)).decode()
