"""What root allows: a table of facts, refusals first."""

import pytest

from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.group import Group
from hkswitch.model.unit_state import Action
from hkswitch.serviceswitch.policy import Allowed, Denied, permit

CONFIG = Config(
    BridgeConfig(),
    (
        Group("web", "Web", ("httpd.service", "cache.service")),
        Group("kick", "Kick", ("smb.service",), actions=frozenset({Action.RESTART}), restart=True),
        Group("look", "Look", ("sshd.service",), actions=frozenset()),
    ),
)

ALLOWED = {(Action.START, "web"), (Action.STOP, "web"), (Action.RESTART, "kick")}
ASKED = [
    (action, group)
    for action in Action
    for group in ("web", "kick", "look", "httpd.service", "", "WEB", "web ")
]


@pytest.mark.parametrize(("action", "group"), ASKED)
def test_nothing_is_allowed_but_what_the_config_says(action: Action, group: str) -> None:
    verdict = permit(action, group, CONFIG)
    if (action, group) in ALLOWED:
        assert verdict == Allowed(next(each for each in CONFIG.groups if each.id == group))
    else:
        assert isinstance(verdict, Denied)
