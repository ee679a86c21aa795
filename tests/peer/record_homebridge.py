"""Records folders of a real Homebridge: `python -m tests.peer.record_homebridge`.

`main` has a history: its switches have the aids 2, 7 and 8, and switches that are gone had those between.
`child` is a child bridge whose plugin was removed afterwards. `article` has switches that call a script.
"""

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

from tests.peer.homebridge import Homebridge, copied_modules, switch
from tests.support.homebridge_folder import RECORDED, Seen

CASES = RECORDED.with_name("cases")
FILES = ("config.json", "persist", "accessories")
SWITCHES = [switch("File Server", manufacturer="Acme", model="Rack 1", serial="A-1"), switch("web & more")]


async def main_bridge(folder: Path) -> Seen:
    homebridge = Homebridge.new(folder)
    homebridge.configure([SWITCHES[0], *(switch(f"Gone {number}") for number in range(4)), SWITCHES[1]])
    async with homebridge.running():
        seen = await homebridge.pair()
    homebridge.configure([*SWITCHES, switch("Printer")])
    async with homebridge.running():
        return await homebridge.look(seen)


async def child_bridge(folder: Path, copy: Path) -> Seen:
    homebridge = Homebridge.new(folder, child=True)
    homebridge.configure([*SWITCHES, switch("Printer")])
    async with homebridge.running():
        seen = await homebridge.pair()
    homebridge.modules, homebridge.child_port = copied_modules(copy, plugin=False), 0
    async with homebridge.running():
        pass
    return seen


async def article(folder: Path) -> Seen:
    homebridge = Homebridge.new(folder)
    platforms = json.loads((CASES / "article.json").read_text())["platforms"]
    homebridge.configure(platforms[0]["switches"])
    async with homebridge.running():
        return await homebridge.pair()


async def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        made = {
            "main": await main_bridge(Path(work) / "main"),
            "child": await child_bridge(Path(work) / "child", Path(work)),
            "article": await article(Path(work) / "article"),
        }
        for name, seen in made.items():
            shutil.rmtree(RECORDED / name, ignore_errors=True)
            (RECORDED / name).mkdir(parents=True)
            seen.write(RECORDED / name)
            for each in FILES:
                source, copied = Path(work) / name / each, RECORDED / name / each
                if source.is_dir():
                    shutil.copytree(source, copied, ignore=shutil.ignore_patterns("*.bak"))
                else:
                    shutil.copy(source, copied)


if __name__ == "__main__":
    asyncio.run(main())
