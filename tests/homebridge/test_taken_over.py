"""Configs as people have them, and all that becomes of them: groups of units, and groups of commands."""

import pytest

from hkswitch.model.group import Group
from tests.homebridge.importing import (
    groups,
    imported,
    left,
    of_commands,
    of_units,
    switch,
    switches,
    systemd,
)

WRAPPED = "sudo /usr/local/bin/serviceswitch"

CONFIGS = {
    "the article's": (
        """{
    "bridge": { "name": "Homebridge", "username": "CC:22:3D:E3:CE:30", "port": 51826, "pin": "031-45-154" },
    "platforms": [
        {
            "platform": "cmdSwitch2",
            "name": "CMD Switch",
            "switches": [{
                "name": "File Server",
                "on_cmd": "sudo /usr/local/bin/serviceswitch start fileserver",
                "off_cmd": "sudo /usr/local/bin/serviceswitch stop fileserver",
                "state_cmd": "sudo /usr/local/bin/serviceswitch status fileserver",
                "polling": true, "interval": 5, "timeout": 2000
            }, {
                "name": "Web Server",
                "on_cmd": "sudo /usr/local/bin/serviceswitch start web",
                "off_cmd": "sudo /usr/local/bin/serviceswitch stop web",
                "state_cmd": "sudo /usr/local/bin/serviceswitch status web",
                "polling": true, "interval": 5, "manufacturer": "me", "model": "web", "serial": 1
            }]
        }
    ]
}""",
        [of_units("fileserver", "File Server", "smb nmb netatalk"), of_units("web", "Web Server", "httpd")],
    ),
    "a wrapper that PATH finds": (
        switches(switch("Files", "serviceswitch start fileserver", "serviceswitch stop fileserver")),
        [of_units("fileserver", "Files", "smb nmb netatalk")],
    ),
    "a wrapper by bash": (
        switches(
            switch("Web", f"bash {WRAPPED.split()[1]} start web", f"/bin/bash {WRAPPED.split()[1]} stop web")
        ),
        [of_units("web", "Web", "httpd")],
    ),
    "a group that the wrapper does not know": (
        switches(switch("Db", f"{WRAPPED} start db", f"{WRAPPED} stop db", f"{WRAPPED} status db")),
        [
            of_commands(
                "db",
                "Db",
                (
                    "/usr/local/bin/serviceswitch start db",
                    "/usr/local/bin/serviceswitch stop db",
                    "/usr/local/bin/serviceswitch status db",
                ),
            )
        ],
    ),
    "comments and trailing commas": (
        """// Homebridge
{
  "bridge": {"name": "Home // bridge", "pin": "031-45-154",}, /* the
  pairing */
  "platforms": [
    {"platform": "cmdSwitch2", "switches": [
      {"name": "Plex", "on_cmd": "systemctl start plexmediaserver", // on
       "off_cmd": "systemctl stop plexmediaserver", "state_cmd": "systemctl is-active plexmediaserver",},
    ],},
  ],
}
""",
        [of_units("plex", "Plex", "plexmediaserver")],
    ),
    "a BOM and Windows' line ends": (
        "\ufeff" + switches(systemd("Plex", "plex")).replace("\n", "\r\n"),
        [of_units("plex", "Plex", "plex")],
    ),
    "the platform alone, as the README has it": (
        (
            '{"platform": "cmdSwitch2", "switches": [{"name": "Plex", "on_cmd": "service plex start",'
            ' "off_cmd": "service plex stop", "state_cmd": "service plex status"}]}'
        ),
        [of_units("plex", "Plex", "plex")],
    ),
    "switches as an object": (
        (
            '{"platforms": [{"platform": "cmdSwitch2", "switches": {"Kodi": {"on_cmd": '
            '"systemctl start kodi", "off_cmd": "systemctl stop kodi"}, "1": {"name": "Plex", "on_cmd": '
            '"systemctl start plex", "off_cmd": "systemctl stop plex"}}}]}'
        ),
        [of_units("kodi", "Kodi", "kodi"), of_units("plex", "Plex", "plex")],
    ),
    "two platforms among others": (
        (
            '{"platforms": [{"platform": "config", "name": "Config", "port": 8080}, "nonsense",'
            ' {"platform": "cmdSwitch2", "switches": [{"name": "A", "on_cmd": "systemctl start a",'
            ' "off_cmd": "systemctl stop a"}]}, {"platform": "Cmd4"}, {"platform":'
            ' "homebridge-cmdswitch2.cmdSwitch2", "switches": [{"name": "B", "on_cmd": "systemctl start b",'
            ' "off_cmd": "systemctl stop b"}]}]}'
        ),
        [of_units("a", "A", "a"), of_units("b", "B", "b")],
    ),
    "every way to call systemctl": (
        switches(
            switch("A", "sudo -n systemctl start smbd nmbd", "sudo systemctl stop nmbd smbd.service"),
            switch("B", "/usr/bin/systemctl --no-pager start b", "/bin/systemctl stop -q b"),
            switch("C", "/usr/bin/sudo -u root /bin/systemctl start c@1.service", "systemctl stop c@1"),
            switch("D", "/usr/sbin/service d start", "sudo /etc/init.d/d stop"),
            switch("E", "sudo -nH -- systemctl start e.timer", "sudo --user=root systemctl stop 'e.timer'"),
            switch("F", "systemctl start foo.socket.service", "systemctl stop foo.socket.service"),
        ),
        [
            of_units("a", "A", "smbd nmbd"),
            of_units("b", "B", "b"),
            of_units("c", "C", "c@1"),
            of_units("d", "D", "d"),
            of_units("e", "E", "e.timer"),
            of_units("f", "F", "foo.socket.service"),
        ],
    ),
    "a state that systemd knows anyway": (
        switches(
            switch("A", "systemctl start a", "systemctl stop a", "ps cax | grep a"),
            switch("B", "systemctl start b", "systemctl stop b", "pgrep b"),
            switch("C", "systemctl start c", "systemctl stop c", "systemctl is-active --quiet c"),
        ),
        [of_units("a", "A", "a"), of_units("b", "B", "b"), of_units("c", "C", "c")],
    ),
    "one command that starts, or stops, units": (
        switches(switch("Backup", "systemctl start backup"), switch("Kill", None, "systemctl stop game")),
        [of_units("backup", "Backup", "backup", ["start"]), of_units("kill", "Kill", "game", ["stop"])],
    ),
    "a switch that restarts": (
        switches(
            switch("Restart Plex", "sudo systemctl restart plex"),
            switch("Nginx restart", "service nginx restart"),
        ),
        [
            of_units("restart-plex", "Plex", "plex", ["restart"], restart=True),
            of_units("nginx-restart", "Nginx", "nginx", ["restart"], restart=True),
        ],
    ),
    "a switch that restarts what another one switches": (
        switches(switch("Restart Plex", "systemctl restart plex"), systemd("Plex", "plex")),
        [of_units("plex", "Plex", "plex", restart=True)],
    ),
    "virtual machines": (
        switches(
            switch(
                "Gaming VM",
                "virsh start win10",
                "sudo virsh shutdown win10",
                "/usr/local/bin/vm-is-running 'win 10'",
                polling=True,
                interval=15,
                timeout=30000,
            )
        ),
        [
            of_commands(
                "gaming-vm",
                "Gaming VM",
                (
                    "/usr/bin/virsh start win10",
                    "/usr/bin/virsh shutdown win10",
                    "/usr/local/bin/vm-is-running|win 10",
                ),
                interval=15,
                timeout=30,
            )
        ],
    ),
    "scripts": (
        """{"bridge": {"name": "Homebridge Casa", "pin": "031-45-154"}, "accessories": [], "rooms": [{}],
        "platforms": [{"platform": "cmdSwitch2", "switches": [{"name": "Lámpara Living",
        "on_cmd": "/var/homebridge/commands/poweron.sh 16",
        "off_cmd": "/var/homebridge/commands/poweroff.sh 16",
        "state_cmd": "/var/homebridge/commands/status.sh 16"}]}]}""",
        [
            of_commands(
                "lampara-living",
                "Lámpara Living",
                (
                    "/var/homebridge/commands/poweron.sh 16",
                    "/var/homebridge/commands/poweroff.sh 16",
                    "/var/homebridge/commands/status.sh 16",
                ),
            )
        ],
    ),
    "another machine": (
        switches(
            switch(
                "PC",
                "wakeonlan 00:11:22:33:44:55",
                "ssh -o BatchMode=yes pc 'sudo shutdown -h now; exit'",
                "ping -c 1 -W 1 pc",
                polling=True,
                interval="10s",
            )
        ),
        [
            of_commands(
                "pc",
                "PC",
                (
                    "/usr/bin/wakeonlan 00:11:22:33:44:55",
                    "/usr/bin/ssh|-o|BatchMode=yes|pc|sudo shutdown -h now; exit",
                    "/usr/bin/ping -c 1 -W 1 pc",
                ),
                interval=10,
            )
        ],
    ),
    "web addresses": (
        switches(
            switch(
                "Lamp",
                "curl http://192.168.200.53:8050/key?n=24",
                "curl -s \"http://lamp/set?on=0&by='me'\"",
                "curl -sf 'http://lamp/on'",
            )
        ),
        [
            of_commands(
                "lamp",
                "Lamp",
                (
                    "/usr/bin/curl http://192.168.200.53:8050/key?n=24",
                    "/usr/bin/curl|-s|http://lamp/set?on=0&by='me'",
                    "/usr/bin/curl -sf http://lamp/on",
                ),
            )
        ],
    ),
    "words that YAML would read otherwise": (
        switches(
            switch("Relay", "sispmctl -o 1", "sispmctl yes '~x:y' '#1' '' \"a\\\"\\\\b\"", "test null = 1e3")
        ),
        [
            of_commands(
                "relay",
                "Relay",
                (
                    "/usr/bin/sispmctl -o 1",
                    '/usr/bin/sispmctl|yes|~x:y|#1||a"\\b',
                    "/usr/bin/test null = 1e3",
                ),
            )
        ],
    ),
    "units that are not the same": (
        switches(switch("A", "systemctl start a b", "systemctl stop b", "systemctl is-active b")),
        [
            of_commands(
                "a",
                "A",
                (
                    "/usr/bin/systemctl start a b",
                    "/usr/bin/systemctl stop b",
                    "/usr/bin/systemctl is-active b",
                ),
            )
        ],
    ),
    "another systemctl": (
        switches(
            switch("A", "/opt/systemctl start a", "/opt/systemctl stop a", "/opt/systemctl is-active a")
        ),
        [
            of_commands(
                "a",
                "A",
                ("/opt/systemctl start a", "/opt/systemctl stop a", "/opt/systemctl is-active a"),
            )
        ],
    ),
    "on that stops": (
        switches(switch("Quiet", "systemctl stop fan", "systemctl start fan", "systemctl is-failed fan")),
        [
            of_commands(
                "quiet",
                "Quiet",
                (
                    "/usr/bin/systemctl stop fan",
                    "/usr/bin/systemctl start fan",
                    "/usr/bin/systemctl is-failed fan",
                ),
            )
        ],
    ),
    "somebody else": (
        switches(
            switch("Radio", "sudo -u pi /opt/radio on", "sudo -iu pi radio off", "sudo X=1 radio state")
        ),
        [
            of_commands(
                "radio",
                "Radio",
                (
                    "/usr/bin/sudo -u pi /opt/radio on",
                    "/usr/bin/sudo -iu pi radio off",
                    "/usr/bin/sudo X=1 radio state",
                ),
            )
        ],
    ),
    "intervals and timeouts": (
        switches(
            switch("A", "true", "true", "true", polling=True, interval=0, timeout=5),
            switch("B", "true", "true", "true", polling=False, interval=60, timeout="20"),
            switch("C", "true", "true", "true", polling="true", interval=60, timeout=True),
            switch("D", "true", "true", "true", polling=True, interval=1e9, timeout=10**9),
            switch("E", "true", "true", "true", polling=True, interval=2.7, timeout=999),
            switch("F", "true", "true", "true", polling=True, interval=None, timeout=[1]),
            switch("G", "true", "true", "true", polling=True, interval=-3, timeout=12001),
        ),
        [
            of_commands("a", "A", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 5, 10),
            of_commands("b", "B", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 5, 20),
            of_commands("c", "C", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 5, 10),
            of_commands("d", "D", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 86400, 3600),
            of_commands("e", "E", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 2, 999),
            of_commands("f", "F", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 5, 10),
            of_commands("g", "G", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 5, 13),
        ],
    ),
    "what the platform says for all switches": (
        (
            '{"platforms": [{"platform": "cmdSwitch2", "polling": true, "interval": 20, "switches": ['
            '{"name": "A", "on_cmd": "true", "off_cmd": "true", "state_cmd": "true"},'
            '{"name": "B", "on_cmd": "true", "off_cmd": "true", "state_cmd": "true", "interval": 30}]}]}'
        ),
        [
            of_commands("a", "A", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 20),
            of_commands("b", "B", ("/usr/bin/true", "/usr/bin/true", "/usr/bin/true"), 30),
        ],
    ),
    "names that Apple does not take": (
        switches(
            systemd("Küche: Licht (oben)!", "a"),
            systemd("  'Tom\u2019s_PC'  ", "b"),
            systemd("\u0000💡\n", "c"),
            systemd("音量+", "d"),
            systemd("x" * 100, "e"),
            systemd("", "f"),
            systemd("Cafe\u0301", "g"),
        ),
        [
            of_units("kuche-licht-oben", "Küche Licht oben", "a"),
            of_units("toms-pc", "Tom's PC", "b"),
            of_units("switch", "Switch", "c"),
            of_units("switch-2", "音量", "d"),
            of_units("x" * 64, "x" * 64, "e"),
            of_units("switch-3", "Switch 2", "f"),
            of_units("cafe", "Café", "g"),
        ],
    ),
    "names that Siri cannot tell apart": (
        switches(
            systemd("TV", "a"),
            systemd("tv", "b"),
            systemd("T V", "c"),
            systemd("TV 2", "d"),
            systemd("T  v!", "e"),
            systemd("y" * 64, "f"),
            systemd("y" * 65, "g"),
        ),
        [
            of_units("tv", "TV", "a"),
            of_units("tv-2", "tv 2", "b"),
            of_units("t-v", "T V", "c"),
            of_units("tv-2-2", "TV 2 2", "d"),
            of_units("t-v-2", "T v 2", "e"),
            of_units("y" * 64, "y" * 64, "f"),
            of_units("y" * 62 + "-2", "y" * 62 + " 2", "g"),
        ],
    ),
    "a name that a restart switch has": (
        switches(
            systemd("Restart Plex", "a"), systemd("Plex", "plex"), switch("x", "systemctl restart plex")
        ),
        [
            of_units("restart-plex", "Restart Plex", "a"),
            of_units("plex", "Plex 2", "plex", restart=True),
        ],
    ),
    "names that are no text": (
        switches(
            switch(7, "systemctl start a", "systemctl stop a"),
            switch(None, "systemctl start b", "systemctl stop b"),
        ),
        [of_units("7", "7", "a"), of_units("switch", "Switch", "b")],
    ),
}


@pytest.mark.parametrize(
    ("config", "expected"), [pytest.param(*row, id=name) for name, row in CONFIGS.items()]
)
def test_every_switch_becomes_a_group(config: str, expected: list[Group]) -> None:
    found = imported(config)
    assert list(groups(found)) == expected
    assert left(found) == {}
    assert "Imported " in found.summary


def test_without_a_wrapper_the_commands_call_it_as_they_did() -> None:
    config = switches(switch("Web", f"{WRAPPED} start web", f"{WRAPPED} stop web", f"{WRAPPED} status web"))
    found = imported(config, wrapper=None)
    path = "/usr/local/bin/serviceswitch"
    assert groups(found) == (
        of_commands("web", "Web", (f"{path} start web", f"{path} stop web", f"{path} status web")),
    )
    assert f"'{path}' is called as before: it could not be read" in found.text


def test_a_status_that_the_wrapper_gives_otherwise_is_left_out() -> None:
    wrapper = b"#!/bin/bash\ncase $1 in status) pgrep smbd;; *) systemctl $1 smb;; esac\n"
    found = imported(
        switches(switch("Web", f"{WRAPPED} start web", f"{WRAPPED} stop web", f"{WRAPPED} status web")),
        wrapper,
    )
    assert groups(found) == (of_units("web", "Web", "smb"),)
    assert f"its state_cmd is not needed, because systemd knows the state: {WRAPPED} status web" in found.text
