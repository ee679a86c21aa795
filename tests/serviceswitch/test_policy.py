"""What root allows: a table of facts, refusals first."""

import pytest

from hkswitch.model.config import BridgeConfig, Config
from hkswitch.model.group import AlertSensor, Group
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import CONFIG_CHANGED
from hkswitch.serviceswitch.policy import ALERT, Allowed, Denied, permit

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
    verdict = permit(action, group, None, CONFIG)
    if (action, group) in ALLOWED:
        assert verdict == Allowed(next(each for each in CONFIG.groups if each.id == group))
    else:
        assert isinstance(verdict, Denied)


@pytest.mark.parametrize("group", CONFIG.groups, ids=lambda group: group.id)
@pytest.mark.parametrize("token", ["", "0" * 32, CONFIG.groups[0].token])
def test_nothing_is_allowed_for_what_a_group_does_not_mean_today(group: Group, token: str) -> None:
    is_todays = token == group.token
    for action in Action:
        verdict = permit(action, group.id, token, CONFIG)
        if is_todays:
            assert verdict == permit(action, group.id, None, CONFIG)
        else:
            assert verdict == Denied(CONFIG_CHANGED)


SENSOR = Group("sensor", "Sensor", ("httpd.service",), alert=AlertSensor.LEAK)
QUIET = Group("quiet", "Quiet", ("httpd.service",))
WITH_COMMAND = Config(BridgeConfig(), (SENSOR, QUIET), alert_command=("/usr/local/bin/tell",))
WITHOUT_COMMAND = Config(BridgeConfig(), (SENSOR, QUIET))
NOT_CONFIGURED = Denied("the configuration has no 'alert' for this group, or no 'alert_command'")


@pytest.mark.parametrize(
    ("config", "group", "token", "verdict"),
    [
        (WITH_COMMAND, "sensor", SENSOR.token, Allowed(SENSOR)),
        (WITH_COMMAND, "sensor", "0" * 32, Denied(CONFIG_CHANGED)),
        (WITH_COMMAND, "sensor", "", Denied(CONFIG_CHANGED)),
        (WITH_COMMAND, "quiet", QUIET.token, NOT_CONFIGURED),
        (WITHOUT_COMMAND, "sensor", SENSOR.token, NOT_CONFIGURED),
        (WITH_COMMAND, "none", "", Denied("there is no group 'none' in the configuration")),
        (WITH_COMMAND, "", "", Denied("there is no group '' in the configuration")),
        (CONFIG, "web", CONFIG.groups[0].token, NOT_CONFIGURED),
    ],
)
def test_an_alert_needs_a_sensor_of_the_group_and_a_command(
    config: Config, group: str, token: str, verdict: Allowed | Denied
) -> None:
    assert permit(ALERT, group, token, config) == verdict
