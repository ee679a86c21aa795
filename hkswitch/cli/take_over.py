"""Takes over a Homebridge bridge: writes its identity, pairings and ids into hkswitch's state folder.

It only reads Homebridge's folder. Everything that can fail is checked before anything is written.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from hkswitch.cli.state_folder import give_to_daemon, held, refuse_paired, refused
from hkswitch.control import STATE_FOLDER
from hkswitch.daemon import assumed_states
from hkswitch.daemon.assumed_states import Meaning
from hkswitch.doctor.finding import counted
from hkswitch.doctor.still_running import still_answers, units_that_start_homebridge
from hkswitch.hap import state_file
from hkswitch.hap.keys import is_key_pair
from hkswitch.hap.restored_state import next_config_version
from hkswitch.hap.sessions import controller_of
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_format import Stored
from hkswitch.hap.taken_over import TakenAccessory, TakenOver, Texts
from hkswitch.homebridge import jsonc
from hkswitch.homebridge.bridges import starts
from hkswitch.homebridge.damage import MOST_FILE_BYTES, Damaged
from hkswitch.homebridge.imported import Imported
from hkswitch.homebridge.take_over import TakeOver, take_over
from hkswitch.model.config import parse
from hkswitch.model.config_file import read_regular
from hkswitch.model.errors import Exit, Failure

DOING: Final = "take over the bridge"
CONFIG_NAME: Final = "config.json"


class Prepared(NamedTuple):
    """A take-over that can be carried out."""

    found: TakeOver
    stored: Stored
    state_folder: Path
    on: Mapping[str, Meaning]
    """The groups without a status that Homebridge last turned on."""

    def carry_out(self) -> str:
        """Write the state, and return a report for the user. Raises `Failure`."""
        with held(self.state_folder, DOING), state_file.as_owner(self.state_folder):
            _check_unpaired(self.state_folder, self.found.bridge.username)
            state_file.write(self.state_folder, self.stored)
            assumed = [*self._assume_states()]
        found = self.found
        number, clients = len(found.switches), len(found.identity.clients)
        what = f"{number} {'switch' if number == 1 else 'switches'} and {counted(clients, 'controller')}"
        return "\n".join(
            [
                f"Took over the bridge {found.bridge.username} with {what} into {self.state_folder}.",
                *(f"  {note}" for note in (*found.notes, *assumed)),
                "Keep the ids of these groups: by them, hkswitch finds what phones know.",
                "Never run it in Homebridge while hkswitch runs: phones would see two of it.",
            ]
        )

    def _assume_states(self) -> Iterator[str]:
        """Carry the states over that no command can tell, and yield a note about them.

        The bridge is taken over by now. Without the file, those groups are off until they are switched.
        """
        names = ", ".join(self.on)
        try:
            groups = [switch.identity for switch in self.found.switches]
            assumed_states.carry_over(self.state_folder, groups, self.on)
        except OSError as error:
            which = f" ({names})" if names else ""
            yield f"cannot write which switches were on{which}: {error.strerror or error}"
        else:
            if names:
                yield f"on, as Homebridge last turned them, without a command to tell: {names}"


def prepare(
    config: bytes, config_file: Path, imported: Imported, folder: Path, state_folder: Path
) -> Prepared:
    """Read Homebridge's folder and check everything; writes nothing but the owner of an empty state folder.

    Raises `Failure`.
    """
    if not folder.is_dir():
        raise Failure(f"{folder} is not a folder; name the one with Homebridge's config.json", Exit.USAGE)
    found = take_over(config, str(config_file), imported.origins, _reader(folder), imported.left)
    if not is_key_pair(found.identity.private_key, found.identity.public_key):
        raise Damaged(f"persist/AccessoryInfo of {found.bridge.username}", "its keys do not belong together")
    if state_folder == STATE_FOLDER:
        give_to_daemon(state_folder, DOING)
    if state_folder.exists():
        # First without the lock, which a daemon holds: it would answer for the bridge that it took over.
        with state_file.as_owner(state_folder):
            _check_unpaired(state_folder, found.bridge.username)
    _check_stopped(found, folder)
    if state_folder.exists():
        with held(state_folder, DOING):
            pass
    return Prepared(found, stored_of(found), state_folder, _on(found, imported))


def stored_of(found: TakeOver) -> Stored:
    """Return the state of a bridge that was taken over."""
    identity = found.identity
    code, setup = identity.setup_code, Setup.new()
    if Setup(code, setup.id).is_allowed:  # Homebridge accepts any code
        setup = Setup(code, setup.id)
    if identity.setup_id:
        setup = Setup(setup.code, identity.setup_id)
    accessories = {
        each.identity: TakenAccessory(each.aid, _texts(each.name, each), each.configured_name)
        for each in found.switches
    }
    bridge = _texts(identity.display_name, found.bridge)
    return Stored(
        setup,
        _accessory(found),
        iids=found.iids,
        taken_over=TakenOver(found.first_free_aid, bridge, accessories),
    )


def _on(found: TakeOver, imported: Imported) -> dict[str, Meaning]:
    groups = parse(imported.text.encode(), "").groups
    was_on = {switch.identity for switch in found.switches if switch.was_on}
    return {
        group.id: assumed_states.meaning_of(group)
        for group in groups
        if group.assume_state and group.id in was_on
    }


def _texts(name: str, of: Any) -> Texts:  # noqa: ANN401 -- a switch or a bridge
    return Texts(name, of.manufacturer, of.model, of.serial_number)


def _accessory(found: TakeOver) -> dict[str, Any]:
    """Return HAP-python's part of the state. Without a hash, the first start announces this c#."""
    identity = found.identity
    clients = {str(controller_of(client.id.encode())): client for client in identity.clients}
    return {
        "mac": identity.username,
        "config_version": next_config_version(identity.config_version),
        "paired_clients": {uuid: client.public_key for uuid, client in clients.items()},
        "client_properties": {uuid: {"permissions": int(c.is_admin)} for uuid, c in clients.items()},
        "client_uuid_to_bytes": {uuid: client.id.encode().hex() for uuid, client in clients.items()},
        "accessories_hash": None,
        "private_key": identity.private_key,
        "public_key": identity.public_key,
    }


def _check_stopped(found: TakeOver, folder: Path) -> None:
    """Raise `Failure` if the bridge runs in Homebridge, or would be started again."""
    username = found.bridge.username
    if starts(_contents(folder / CONFIG_NAME), username) and (units := units_that_start_homebridge()):
        remedy = f"run `sudo systemctl disable --now {' '.join(units)}`"
        are = "is" if len(units) == 1 else "are"
        raise refused(
            DOING,
            f"{', '.join(units)} {are} enabled or active and would start {username} again; {remedy}, "
            f"or import a copy of {folder / CONFIG_NAME}, and remove that bridge from the original",
        )
    if how := still_answers(username, found.bridge.port):
        raise refused(DOING, f"{username} still runs: {how}; stop it first")


def _check_unpaired(state_folder: Path, username: str) -> None:
    stored = state_file.read(state_folder)
    if stored is not None and stored.paired:
        if stored.device_id == username:
            remedy = "to convert the configuration again, leave out --take-over"
            raise refused(DOING, f"hkswitch took over {username} already; {remedy}")
        raise refuse_paired(state_folder, DOING)


def _reader(folder: Path) -> Callable[[str], bytes | None]:
    def read(name: str) -> bytes | None:
        file = folder / name
        try:
            return read_regular(file, MOST_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Failure(f"cannot read {file}: {error.strerror or error}", Exit.CONFIG) from error

    return read


def _contents(file: Path) -> object:
    """Return Homebridge's own config; an unreadable one starts nothing, and without one it has defaults."""
    found = _reader(file.parent)(file.name)
    if found is None:
        return {}
    with suppress(Failure):
        return jsonc.read(found, str(file))
    return {"bridge": {"username": "-"}}
