"""Draws docs/picture.svg: the README's example in a terminal and in Home. `make picture` runs it.

It runs the real programs, each in a terminal of its own, with simulated units, in a network namespace whose
address is that of a home network. A real controller pairs with the bridge and turns a switch on; the tiles
show what it reads. A fixed setup code is put into the state folder first, so that the picture shows no real
one. The commands have `--state-dir`, which the picture leaves out.
"""

import asyncio
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from docs.drawing import COLUMNS, HomeTile, drawing
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import Setup
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure
from tests.support.controller import Controller

ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = Path(__file__).with_name("picture.svg")
README: Final = ROOT / "README.md"
HKSWITCH: Final = Path(sys.executable).with_name("hkswitch")
SETUP: Final = Setup("031-45-154", "HKSW")

ADDRESS: Final = "192.168.1.10"
NETWORK: Final = f'ip link set lo up && ip address add {ADDRESS}/24 dev lo && exec "$@"'
IN_NAMESPACE: Final = "--in-namespace"

TAPPED: Final = "File Server"
STARTED: Final = "web"

SERVICES: Final = {"49": "switch", "47": "outlet", "43": "light", "40": "fan"}
"""The HAP service types of the accessory types."""
NAME, ON = "23", "25"
BRIDGE_AID: Final = 1


class NotTaken(Failure):
    """A program that did not print what the picture needs; `str()` has its output."""


def isolated() -> tuple[str, ...]:
    """Return the command that runs a program in a network of its own, without root if possible."""
    rights = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *rights, "--net", "sh", "-ec", NETWORK, "sh")


def taken() -> str:
    """Draw the picture. Raises `NotTaken`, also where no network namespace can be created."""
    command = (*isolated(), sys.executable, "-m", "docs.picture", IN_NAMESPACE)
    drawn = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if drawn.returncode != 0:
        raise NotTaken(drawn.stderr.strip())
    return drawn.stdout


def _taken_here() -> str:
    with tempfile.TemporaryDirectory(prefix="hkswitch-picture-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(_example())
        with _demo(folder):
            pass  # creates the state
        stored = state_file.read(folder)
        assert stored is not None
        state_file.write(folder, replace(stored, setup=SETUP))
        with _demo(folder):
            return drawing(*asyncio.run(_session(folder)))


async def _session(folder: Path) -> tuple[str, list[HomeTile]]:
    """Pair a controller, turn on one switch in Home and one in the terminal; return what both show."""
    shown = [("sudo hkswitch pair", await _output_of(folder, "pair"))]
    phone = await Controller.pair(ADDRESS, BridgeConfig().port, SETUP.code)
    try:
        await phone.write(TAPPED, on=True)
        shown.append((f"sudo hkswitch start {STARTED}", await _output_of(folder, "start", STARTED)))
        shown.append(("hkswitch status", await _output_of(folder, "status")))
        tiles = tiles_of(await phone.accessories())
    finally:
        await phone.close()
    return "\n".join(f"\x1b[1m$ {command}\x1b[0m\n{output}" for command, output in shown), tiles


def tiles_of(accessories: Sequence[Mapping[str, Any]]) -> list[HomeTile]:
    """Return the tiles of a bridge's accessories (HAP specification, 6.3, as JSON), in the order of names."""
    switches = [each["services"] for each in accessories if each["aid"] != BRIDGE_AID]
    return sorted(map(_tile_of, switches))


def _tile_of(services: Sequence[Mapping[str, Any]]) -> HomeTile:
    values = {
        _short(each["type"]): each.get("value") for service in services for each in service["characteristics"]
    }
    [kind] = (SERVICES[_short(each["type"])] for each in services if _short(each["type"]) in SERVICES)
    return HomeTile(values[NAME], kind, bool(values[ON]))


def _short(uuid: str) -> str:
    """Return the short form of one of Apple's types."""
    return uuid.partition("-")[0].lstrip("0")


def _example() -> str:
    """Return the first configuration in the README."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(blocks[0])


@contextmanager
def _demo(folder: Path) -> Iterator[None]:
    command = (
        HKSWITCH,
        "demo",
        "--config",
        folder / "config.yaml",
        "--state-dir",
        folder,
        "--address",
        ADDRESS,
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as demo:
        assert demo.stdout is not None and demo.stderr is not None  # noqa: PT018 -- they are pipes
        try:
            if not any(line.startswith("Setup code: ") for line in demo.stdout):
                raise NotTaken(f"hkswitch demo exited: {demo.stderr.read().strip()}")
            yield
        finally:
            demo.terminate()


async def _output_of(folder: Path, *arguments: str) -> str:
    return await asyncio.to_thread(_in_terminal, *arguments, "--state-dir", str(folder))


def _in_terminal(*arguments: str) -> str:
    """Run hkswitch with its output in a terminal; standard error, such as a spinner, is left out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    environment = kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        (HKSWITCH, *arguments), stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as run:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 -- a descriptor, not a path
            output = b"".join(_read(terminal.fileno()))
        _, errors = run.communicate()
    if run.returncode != 0:
        raise NotTaken(
            f"hkswitch {arguments[0]} exited with status {run.returncode}: {errors.decode().strip()}"
        )
    return output.decode().replace("\r\n", "\n")


def _read(terminal: int) -> Iterator[bytes]:
    """Yield the output until the other end is closed, which Linux reports as EIO."""
    try:
        while chunk := os.read(terminal, 65536):
            yield chunk
    except OSError:
        return


def main() -> None:
    """Write the picture; in the namespace, print it."""
    try:
        if IN_NAMESPACE in sys.argv[1:]:
            sys.stdout.write(_taken_here())
        else:
            PICTURE.write_text(taken(), encoding="utf-8")
    except Failure as failure:
        sys.exit(f"picture: {failure}")


if __name__ == "__main__":
    main()
