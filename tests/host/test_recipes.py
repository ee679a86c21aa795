"""Every recipe of docs/recipes.md, with its code blocks unchanged, on a host that has the real services.

There are four exceptions: the virtual machine belongs to libvirt's test driver, in a real libvirtd; hostapd,
which needs a Wi-Fi card, only sleeps; the compose project is made of the label that compose gives to
containers; and the servers that get alerts are small ones on the host. The tunnel is real; wireguard-go
replaces a kernel without WireGuard.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from hkswitch.model.errors import Exit
from tests.host.conftest import STUB_UNIT
from tests.host.engines import BOOT_OPTIONS
from tests.host.fake_daemon import fake_daemon
from tests.host.machine import Boot, Host, booted, eventually, install
from tests.host.recipes import CONFIG, Recipe, applied, recipes, write
from tests.host.rootfs import CHECKOUT, RECIPES, root_folder, wheels_folder
from tests.host.test_attacks import by_sudo, session
from tests.host.test_samples import alert, answered

ACTIONS: Final = ("start", "stop", "status")

CONTAINER: Final = "A Docker container"
PROJECT: Final = "A compose project"
OF_PODMAN: Final = "A Podman container"
QUADLET: Final = "A Podman quadlet"
MACHINE: Final = "A virtual machine"
TUNNEL: Final = "A WireGuard tunnel, and the Wi-Fi that uses it"
PROGRAM: Final = "A program that daemonizes"
ALERTS: Final = "Alerts without a home hub"

SERVER: Final = """["/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; sleep infinity & wait"]"""
IMAGE: Final = "docker.io/library/caddy:2"
"""The image of the quadlet."""
IN_PROJECT: Final = "--network=none --restart=unless-stopped --label=com.docker.compose.project=immich"
PAUSED: Final = "docker start photos; docker pause photos"
RESTARTING: Final = """
docker rm photos
docker run --detach --name=photos --network=none --restart=always server /bin/busybox false
"""
WITHOUT_SCOPES: Final = {
    CONTAINER: (
        "/etc/docker/daemon.json",
        '{"exec-opts": ["native.cgroupdriver=cgroupfs"]}',
        "systemctl reset-failed docker.service docker.socket; systemctl restart docker.service",
        "docker create --name=photos --network=none server",
    ),
    OF_PODMAN: (
        "/etc/containers/containers.conf.d/without-scopes.conf",
        '[engine]\ncgroup_manager = "cgroupfs"\n',
        "systemctl stop podman.service",
        f"podman create --name=notes --network=none {IMAGE}",
    ),
}
"""How an engine is told to make its containers' cgroups itself, and how to make it and a container obey."""
TEST_DRIVER: Final = "test+unix:///default"
DOMAIN: Final = """\
<domain type='test'><name>win10</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>
"""
WIRE: Final = """
ip netns add far
ip link add near0 type veth peer name far0 netns far
ip address add 10.78.0.2/24 dev near0
ip link set near0 up
ip -n far address add 10.78.0.1/24 dev far0
ip -n far link set far0 up
"""
NEAR_END: Final = """\
[Interface]
PrivateKey = {ours}
Address = 10.9.0.2/24

[Peer]
PublicKey = {theirs}
Endpoint = 10.78.0.1:51820
AllowedIPs = 10.9.0.0/24
"""
FAR_END: Final = """\
[Interface]
PrivateKey = {ours}
Address = 10.9.0.1/24
ListenPort = 51820

[Peer]
PublicKey = {theirs}
AllowedIPs = 10.9.0.2/32
"""
LEAVES_A_SERVER: Final = """\
#!/bin/sh
/opt/gameserver/server infinity &
touch /run/gameserver-started
"""
NTFY: Final = "https://ntfy.example.org"
SERVERS: Final = """\
import http.server
import json
import socketserver
import threading

class Topic(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(json.dumps([self.path, self.headers["Title"], body]), flush=True)
        self.send_response(200)
        self.end_headers()

class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 localhost ESMTP\\r\\n")
        said = []
        for line in self.rfile:
            said.append(line.decode().strip())
            if said[-1] == "DATA":
                self.wfile.write(b"354 go on\\r\\n")
                for part in self.rfile:
                    assert part.endswith(b"\\r\\n")
                    if part == b".\\r\\n":
                        break
                    said.append(part.decode().strip())
                print(json.dumps(said[1:]), flush=True)
            self.wfile.write(b"250 done\\r\\n")

threading.Thread(target=socketserver.TCPServer(("127.0.0.1", 25), Mail).serve_forever).start()
http.server.HTTPServer(("127.0.0.1", 8080), Topic).serve_forever()
"""
"""The server of a topic, and a mail server: they print what they get."""
REASON: Final = '@/etc/passwd: web.service "exited" with status 1, $HOME `id` ü'


@dataclass(frozen=True, slots=True)
class Service:
    """A service that a recipe switches, and shell commands to start, stop and check it without hkswitch."""

    fixture: str
    made: str
    runs: str
    switched_on: str
    switched_off: str
    removed: str


SERVICES: Final = {
    CONTAINER: Service(
        fixture="docker",
        made="docker create --name=photos --network=none server",
        runs="docker ps --format='{{.Names}}' | grep -qx photos",
        switched_on="docker start photos",
        switched_off="docker kill photos",
        removed="docker rm --force photos",
    ),
    PROJECT: Service(
        fixture="docker",
        made=f"docker create {IN_PROJECT} --name=web server; docker create {IN_PROJECT} --name=db server",
        runs="test $(docker ps --quiet | wc --lines) = 2",
        switched_on="docker start web db",
        switched_off="docker kill db",
        removed="docker rm --force web db",
    ),
    OF_PODMAN: Service(
        fixture="podman",
        made=f"podman create --name=notes --network=none {IMAGE}",
        runs="podman ps --format='{{.Names}}' | grep -qx notes",
        switched_on="podman start notes",
        switched_off="podman kill notes",
        removed="podman rm --force notes",
    ),
    QUADLET: Service(
        fixture="podman",
        made=":",
        runs="podman ps --format='{{.Names}}' | grep -qx systemd-wiki",
        switched_on="systemctl start wiki",
        switched_off="podman kill systemd-wiki",
        removed="systemctl stop wiki; systemctl reset-failed wiki",
    ),
    MACHINE: Service(
        fixture="libvirt",
        made=f"virsh --connect={TEST_DRIVER} define /run/win10.xml",
        runs=f"virsh --connect={TEST_DRIVER} list --name | grep -qx win10",
        switched_on=f"virsh --connect={TEST_DRIVER} start win10",
        switched_off=f"virsh --connect={TEST_DRIVER} destroy win10",
        removed=f"virsh --connect={TEST_DRIVER} 'destroy win10; undefine win10'",
    ),
    TUNNEL: Service(
        fixture="wireguard",
        made=":",
        runs="wg show wg0 && systemctl is-active hostapd",
        switched_on="systemctl start wg-quick@wg0 hostapd",
        switched_off="ip link delete wg0",
        removed="systemctl stop wg-quick@wg0 hostapd; systemctl reset-failed wg-quick@wg0",
    ),
    PROGRAM: Service(
        fixture="gameserver",
        made=":",
        runs="pgrep --exact server",
        switched_on="systemctl start gameserver",
        switched_off="pkill --exact server",
        removed="rm /run/gameserver-started; systemctl stop gameserver; systemctl reset-failed gameserver",
    ),
}


@pytest.fixture(scope="module")
def host(boot: Boot, tmp_path_factory: pytest.TempPathFactory, staging: str) -> Iterator[Host]:
    """A host with the services of the recipes. `boot` skips where no host can boot."""
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(RECIPES, print)}
    log = tmp_path_factory.mktemp("recipes") / "host.log"
    with booted(RECIPES.name, root_folder(RECIPES, print), read_only, log, (*BOOT_OPTIONS, staging)) as host:
        install(host)
        yield host


@pytest.fixture(scope="module")
def docker(host: Host) -> Iterator[None]:
    """Docker, with an image that needs no registry."""
    host.run("systemctl", "start", "docker.service")
    sh(host, 'tar -C / -c bin/busybox | docker import --change "CMD $0" - server', SERVER)
    yield
    host.run("systemctl", "stop", "docker.service", "docker.socket", "containerd.service")


@pytest.fixture(scope="module")
def podman(host: Host) -> Iterator[None]:
    """Podman, with an image of the recipe's name, and without a process limit, which the host lacks."""
    host.write("/etc/containers/containers.conf.d/host.conf", "[containers]\npids_limit = 0\n")
    sh(host, f'tar -C / -c bin/busybox | podman import --change "CMD $0" - {IMAGE}', SERVER)
    host.run("systemctl", "start", "podman.socket")
    yield
    host.run("systemctl", "stop", "podman.socket", "podman.service")


@pytest.fixture(scope="module")
def libvirt(host: Host) -> Iterator[None]:
    """libvirtd, with an open connection, as its test driver keeps its state only that long."""
    host.write("/run/win10.xml", DOMAIN)
    host.run("systemctl", "start", "libvirtd.service")
    virsh = ("virsh", f"--connect={TEST_DRIVER}", "define /run/win10.xml; event --all --loop")
    host.run("systemd-run", "--quiet", "--unit=connection", *virsh)
    eventually(lambda: is_true(host, f"virsh --connect={TEST_DRIVER} dominfo win10"))
    host.run("virsh", f"--connect={TEST_DRIVER}", "undefine", "win10")
    yield
    sockets = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "virtlogd.socket")
    host.run("systemctl", "stop", "connection.service", "libvirtd.service", *sockets)


@pytest.fixture(scope="module")
def wireguard(host: Host) -> Iterator[None]:
    """The other end of the tunnel, in its own network, and a hostapd that only sleeps."""
    sh(host, WIRE)
    ours, theirs = (host.run("wg", "genkey").stdout.strip() for _ in range(2))
    for end, text, private, other in (("wg0", NEAR_END, ours, theirs), ("far", FAR_END, theirs, ours)):
        public = host.run("wg", "pubkey", input=other).stdout.strip()
        host.write(f"/etc/wireguard/{end}.conf", text.format(ours=private, theirs=public), 0o600)
    host.write("/usr/local/lib/systemd/system/hostapd.service", STUB_UNIT)
    in_its_network = "[Service]\nNetworkNamespacePath=/run/netns/far\n"
    host.write("/usr/local/lib/systemd/system/wg-quick@far.service.d/network.conf", in_its_network)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "wg-quick@far.service")
    yield
    host.run("systemctl", "stop", "wg-quick@far.service")
    sh(host, "ip netns delete far")


@pytest.fixture(scope="module")
def gameserver(host: Host) -> None:
    """A program that starts a server in the background."""
    host.write("/opt/gameserver/start", LEAVES_A_SERVER, 0o755)
    host.run("cp", "/usr/bin/sleep", "/opt/gameserver/server")


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest, host: Host) -> Iterator[Recipe]:
    """The recipe of this title, applied; its service does not exist yet."""
    title: str = request.param
    request.getfixturevalue(SERVICES[title].fixture)
    written = recipes()[title]
    if title == MACHINE:
        written = written.replacing("qemu:///system", TEST_DRIVER)
    with applied(written, host):
        yield written


@pytest.fixture
def service(recipe: Recipe, host: Host) -> Iterator[Service]:
    """The recipe's service, stopped."""
    service = SERVICES[recipe.title]
    sh(host, service.made)
    yield service
    host.run("sh", "-c", service.removed, check=False)


def sh(host: Host, script: str, *arguments: str) -> None:
    host.run("sh", "-ec", script, *arguments)


def is_true(host: Host, condition: str) -> bool:
    return host.run("sh", "-c", condition, check=False).returncode == 0


def act(host: Host, action: str, recipe: Recipe) -> int:
    return host.run("serviceswitch", action, recipe.group, check=False).returncode


def every(*titles: str) -> pytest.MarkDecorator:
    """Parametrize by recipe: all, or those with these titles."""
    return pytest.mark.parametrize("recipe", titles or SERVICES, indirect=True)


def test_every_recipe_of_the_page_is_tried() -> None:
    elsewhere = {"Containers behind a VPN"}  # test_vpn_recipe.py
    assert recipes().keys() == SERVICES.keys() | {ALERTS} | elsewhere
    assert all(CONFIG in recipe.files for recipe in recipes().values())


@every()
def test_it_is_switched_on_and_off(host: Host, recipe: Recipe, service: Service) -> None:
    assert act(host, "status", recipe) == Exit.NOT_ON
    assert act(host, "start", recipe) == Exit.OK
    eventually(lambda: is_true(host, service.runs))  # a forked program may not have its name yet
    assert act(host, "status", recipe) == Exit.OK
    assert act(host, "stop", recipe) == Exit.OK
    assert not is_true(host, service.runs)
    assert act(host, "status", recipe) == Exit.NOT_ON


@every()
def test_a_change_from_outside_is_reported(host: Host, recipe: Recipe, service: Service) -> None:
    sh(host, service.switched_on)
    eventually(lambda: is_true(host, service.runs))
    assert act(host, "status", recipe) == Exit.OK
    sh(host, service.switched_off)
    eventually(lambda: act(host, "status", recipe) == Exit.NOT_ON)
    assert act(host, "stop", recipe) == Exit.OK
    assert act(host, "start", recipe) == Exit.OK
    assert act(host, "status", recipe) == Exit.OK


@every(CONTAINER, PROJECT, OF_PODMAN, MACHINE)
def test_without_its_service_it_is_unavailable(host: Host, recipe: Recipe) -> None:
    not_on = Exit.UNAVAILABLE if recipe.title == MACHINE else Exit.NOT_ON
    assert [act(host, action, recipe) for action in ACTIONS] == [Exit.UNAVAILABLE, Exit.UNAVAILABLE, not_on]


@every(CONTAINER, PROJECT)
def test_without_docker_a_container_is_unavailable_and_docker_stays_off(
    host: Host, recipe: Recipe, service: Service
) -> None:
    sh(host, service.switched_on)
    host.run("systemctl", "stop", "docker.service")  # docker.socket would start it at the next connection
    codes = [act(host, action, recipe) for action in ACTIONS]
    state = host.run("systemctl", "is-active", "docker.service", check=False).stdout.strip()
    said = host.run("hkswitch", "doctor", check=False).stdout
    host.run("systemctl", "start", "docker.service")
    assert codes == [Exit.UNAVAILABLE, Exit.UNAVAILABLE, Exit.NOT_ON]
    assert state == "inactive"
    assert "docker.service is inactive; run `sudo systemctl enable --now docker.service`" in said


@every(CONTAINER)
@pytest.mark.parametrize(
    ("state", "shown"),
    [(PAUSED, "partial (paused)"), (RESTARTING, "failing (restarting)")],
    ids=["paused", "restarting"],
)
def test_a_container_that_does_nothing_is_not_on(
    host: Host, recipe: Recipe, service: Service, state: str, shown: str
) -> None:
    sh(host, state)

    def is_not_on() -> bool:
        """Whether it is so now: in a crash loop, it runs for moments."""
        ended = host.run("serviceswitch", "status", recipe.group, check=False)
        return ended.returncode == Exit.NOT_ON and shown in ended.stdout

    eventually(is_not_on)


@every(CONTAINER)
def test_a_container_with_rm_is_gone_once_the_switch_is_off(
    host: Host, recipe: Recipe, service: Service
) -> None:
    sh(host, f"{service.removed}; docker run --rm --detach --name=photos --network=none server")
    assert [act(host, action, recipe) for action in ("stop", "start")] == [Exit.OK, Exit.UNAVAILABLE]


@every(PROJECT)
def test_containers_that_use_the_network_of_another_start_after_it(
    host: Host, recipe: Recipe, service: Service, exhaustive: bool
) -> None:
    joined = f"docker create {IN_PROJECT.replace('none', 'container:web')} --name"
    sh(host, f"{joined}=torrent server; {joined}=sonarr server; {joined}=radarr server")
    times = 3 if exhaustive else 1
    codes = [act(host, action, recipe) for action in ("start", "stop") * times]
    sh(host, "docker rm --force torrent sonarr radarr")
    assert codes == [Exit.OK] * 2 * times


@every(PROJECT)
def test_a_project_with_one_container_that_is_down_is_not_on(
    host: Host, recipe: Recipe, service: Service
) -> None:
    sh(host, f"{service.switched_on}; docker stop db")
    shown = host.run("serviceswitch", "status", recipe.group, check=False).stdout
    assert "partial (1 of 2 running: db exited with 0)" in shown
    assert act(host, "start", recipe) == Exit.OK
    assert is_true(host, service.runs)


@every(CONTAINER, OF_PODMAN)
def test_the_log_of_a_container_is_shown_if_its_engine_writes_it_to_the_journal(
    host: Host, recipe: Recipe, service: Service
) -> None:
    program, name = ("docker", "photos") if recipe.title == CONTAINER else ("podman", "notes")
    image = "server" if program == "docker" else IMAGE
    sh(host, service.removed)
    run = f"{program} run --network=none --log-driver=journald"
    sh(
        host,
        f"{run} --name={name} {image} /bin/busybox echo greetings; {run} {image} /bin/busybox echo strangers",
    )
    # As any local user can, as root by sudo, and under the name of an engine's program.
    forged = f"MESSAGE=forged\nCONTAINER_NAME={name}\n"
    sh(
        host,
        'ln -sf /usr/bin/logger /tmp/conmon; printf "%s" "$0" | /tmp/conmon --journald; rm /tmp/conmon',
        forged,
    )
    eventually(lambda: "greetings" in host.run("hkswitch", "logs", recipe.group).stdout)
    eventually(lambda: "forged" in host.run("journalctl", f"CONTAINER_NAME={name}").stdout)
    shown = host.run("hkswitch", "logs", recipe.group)
    assert "strangers" not in shown.stdout
    assert "forged" not in shown.stdout
    assert f"`sudo {program} logs {name}`" in shown.stderr


@every(CONTAINER, OF_PODMAN)
def test_the_doctor_and_add_know_the_containers_and_similar_ones(
    host: Host, recipe: Recipe, service: Service
) -> None:
    program, name = ("docker", "photos") if recipe.title == CONTAINER else ("podman", "notes")
    found = host.run("hkswitch", "doctor", check=False).stdout
    assert f"{name} known to {program.capitalize()}" in found
    sh(host, f"{program} rename {name} {name}-1")
    found = host.run("hkswitch", "doctor", check=False).stdout
    sh(host, f"{program} rename {name}-1 {name}")
    assert f"container {name} does not exist (group {recipe.group}); did you mean {name}-1?" in found
    add = ("hkswitch", "add", "--dry-run", "--id=more", "--engine", program, "--container")
    assert host.run(*add, name).returncode == Exit.OK
    refused = host.run(*add, f"{name}s", check=False)
    assert (refused.returncode, f"did you mean {name}?" in refused.stderr) == (Exit.USAGE, True)


@every(CONTAINER, OF_PODMAN)
def test_an_engine_that_hides_its_containers_from_systemd_is_found_by_check_and_doctor(
    host: Host, recipe: Recipe, service: Service, exhaustive: bool
) -> None:
    if recipe.title == CONTAINER and not exhaustive:
        return  # dockerd restarts slowly; Podman's case has the same words
    file, text, restart, create = WITHOUT_SCOPES[recipe.title]
    config = recipe.files[CONFIG].rstrip() + "\n    restart_when: {cpu_percent: 65}\n"
    said: list[str] = []
    for prepared in (lambda: host.write(file, text), lambda: host.run("rm", file)):
        prepared()
        sh(host, f"{service.removed}; {restart}; {create}; {service.switched_on}")
        host.write(CONFIG, config)
        said.append(host.run("hkswitch", "check", user="nobody").stderr)
        said.append(host.run("hkswitch", "doctor", user="nobody", check=False).stdout)
        sh(host, service.switched_off)
        said.append(host.run("hkswitch", "doctor", check=False).stdout)  # the engine itself tells root
        host.write(CONFIG, recipe.files[CONFIG])
    assert [text.count("the cgroup driver cgroupfs") for text in said] == [1, 1, 1, 0, 0, 0]


@every(QUADLET)
def test_a_quadlets_container_is_refused_with_its_unit(host: Host, recipe: Recipe, service: Service) -> None:
    host.write(CONFIG, "groups: {wiki: {containers: [systemd-wiki], engine: podman}}\n")
    said = [host.run("hkswitch", "check").stderr, host.run("hkswitch", "doctor", check=False).stdout]
    sh(host, service.switched_on)
    codes = [act(host, action, recipe) for action in ("stop", "status")]
    said.append(host.run("hkswitch", "status", check=False).stdout)
    host.write(CONFIG, recipe.files[CONFIG])
    assert codes == [Exit.UNAVAILABLE, Exit.NOT_ON]
    assert is_true(host, service.runs)
    assert [text for text in said if "use units: [wiki.service]" not in text] == []


@every(QUADLET)
def test_a_quadlet_with_a_mistake_has_no_unit_and_podman_reports_why(
    host: Host, recipe: Recipe, service: Service
) -> None:
    write(recipe.replacing("Image=", "Imagine="), host)
    codes = [act(host, action, recipe) for action in ("start", "status")]
    said = host.run("/usr/libexec/podman/quadlet", "-dryrun", check=False).stderr
    write(recipe, host)
    assert codes == [Exit.UNAVAILABLE, Exit.NOT_ON]
    assert "'Imagine'" in said


@every(MACHINE)
def test_a_paused_machine_is_off_and_cannot_be_started(host: Host, recipe: Recipe, service: Service) -> None:
    sh(host, f"{service.switched_on}; virsh --connect={TEST_DRIVER} suspend win10")
    assert act(host, "status", recipe) == Exit.NOT_ON
    assert act(host, "start", recipe) == Exit.UNAVAILABLE


@every(TUNNEL)
def test_a_tunnel_whose_other_end_is_silent_is_not_on(host: Host, recipe: Recipe, service: Service) -> None:
    assert act(host, "start", recipe) == Exit.OK
    sh(host, "ip -n far address delete 10.9.0.1/24 dev far")
    code = act(host, "status", recipe)
    sh(host, "ip -n far address add 10.9.0.1/24 dev far")
    assert code == Exit.NOT_ON
    assert is_true(host, service.runs)
    assert act(host, "status", recipe) == Exit.OK


@every(TUNNEL)
def test_a_lost_tunnel_is_fixed_by_a_restart_but_not_by_a_start(
    host: Host, recipe: Recipe, service: Service
) -> None:
    sh(host, f"{service.switched_on}; {service.switched_off}")
    act(host, "start", recipe)
    assert not is_true(host, service.runs)
    assert act(host, "restart", recipe) == Exit.OK
    assert is_true(host, service.runs)
    assert act(host, "status", recipe) == Exit.OK


@every(PROGRAM)
def test_background_processes_of_a_command_end_with_it(host: Host, recipe: Recipe, service: Service) -> None:
    config = """\
groups:
  gameserver:
    commands:
      start: [/opt/gameserver/start]
      stop: [/usr/bin/pkill, --exact, server]
      status: [/usr/bin/pgrep, --exact, server]
    timeout_seconds: 1
"""
    host.write(CONFIG, config)
    code = act(host, "start", recipe)
    host.write(CONFIG, recipe.files[CONFIG])
    assert code == Exit.UNAVAILABLE
    assert is_true(host, "test -e /run/gameserver-started")
    eventually(lambda: not is_true(host, service.runs))


@pytest.fixture
def received(host: Host) -> Iterator[Path]:
    """The file with what the servers have received, each a line of JSON."""
    host.write("/run/servers.py", SERVERS)
    streams = ("--property=StandardOutput=truncate:/run/received", "--property=StandardError=journal")
    host.run("systemd-run", "--quiet", "--unit=servers", "--collect", *streams, "python3", "/run/servers.py")
    eventually(lambda: {":25", ":8080"} <= {line.split()[3][9:] for line in listening(host)})
    yield Path("/run/received")
    host.run("sh", "-ec", "systemctl stop servers; rm /run/servers.py /run/received")


def listening(host: Host) -> list[str]:
    return [line for line in host.run("ss", "-Hlnt").stdout.splitlines() if "127.0.0.1:" in line]


def test_a_trouble_is_sent_to_a_topic_or_as_mail(host: Host, received: Path) -> None:
    recipe = recipes()[ALERTS].replacing(NTFY, "http://127.0.0.1:8080")
    by_ntfy = recipe.files[CONFIG]
    by_mail = by_ntfy.replace(by_ntfy.partition("\n")[0], recipe.quoted("alert_command: "))
    with applied(recipe, host), fake_daemon(host), session(host, *by_sudo("sudo")) as helper:
        for config in (by_ntfy, by_mail):
            host.write(CONFIG, config)
            helper.send(alert("web", config=config, reason=REASON))
            [ended] = answered(helper)["units"]
            assert (ended["job"], ended["detail"]) == ("done", ""), host.journalctl(
                "-u", "hkswitch-alert-web"
            )
        checked = host.run("hkswitch", "check")
        host.run("sh", "-ec", recipe.quoted("sudo systemd-run"))
    topic, mail, by_hand = [json.loads(line) for line in host.read(str(received)).splitlines()]
    assert "alert_command" not in checked.stderr  # every user may run it
    assert topic == ["/home-server", "web", REASON]
    assert by_hand == ["/home-server", "web", "test"]
    assert mail[:2] == ["MAIL FROM:<server@example.org>", "RCPT TO:<you@example.org>"]
    assert "Subject: web is in trouble (failed)" in mail
    assert mail[-2:] == ["", REASON]
