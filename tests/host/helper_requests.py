"""Builds requests to the helper, each with the token of its group in the config."""

from typing import Final

from hkswitch.model.config import parse
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Request, encode_message
from tests.host.machine import Host

FILE: Final = "/etc/hkswitch/config.yaml"


def request(host: Host, number: int, action: str, group: str) -> str:
    """Return a request for an action on a group, with its token in the host's current config."""
    return request_for_config(host.read(FILE), number, action, group)


def request_for_config(config: str, number: int, action: str, group: str) -> str:
    """Return a request with the token in the given config."""
    found = parse(config.encode(), FILE).group(group)
    assert found is not None
    return encode_message(Request(number, Action(action), group, found.token)).decode()
