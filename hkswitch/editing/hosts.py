"""Adds, changes or removes a host in the text of a config; nothing else in it changes. Pure: no I/O.

It works as splice.py does: each guess is parsed, and accepted only if it means what was intended.
"""

from collections.abc import Iterator
from typing import Final

from hkswitch.editing.additions import additions
from hkswitch.editing.config_text import HOSTS, ConfigEntry, ConfigText, Plain, entries_in, plain
from hkswitch.editing.removals import removals, section_removals
from hkswitch.editing.splice import CannotSplice
from hkswitch.editing.yaml_text import NewEntry, yaml_scalar
from hkswitch.model.config import parse
from hkswitch.model.yaml_nodes import Mapping, Scalar

SSH: Final = "ssh"


def destinations_in(data: bytes, file: str) -> dict[str, str]:
    """Return the hosts of a config by name, with their destinations. Raises `ConfigError`."""
    return {host.name: host.ssh for host in parse(data, file).hosts}


def hosts_in(data: bytes) -> dict[str, str]:
    """Return the hosts of a config by name, with their destinations; it may be invalid, or without groups."""
    found = ((host.key.text, _destination_of(host)) for host in ConfigText(data, HOSTS).entries)
    return {name: "" if destination is None else destination.text for name, destination in found}


def with_host(data: bytes, file: str, name: str, destination: str) -> bytes:
    """Return the config with this host, in place of the one with this name if there is one.

    Raises:
        ConfigError: If the config is invalid, or cannot have this host.
        CannotSplice: If the host cannot be written safely.
    """
    text = ConfigText(data, HOSTS)
    old = {} if _is_empty(text) else destinations_in(data, file)
    if old.get(name) == destination:
        return data
    guesses = _changes(text, name, destination) if name in old else additions(text, _entry(name, destination))
    wanted = _plain_hosts(text, old | {name: destination})
    for guess in guesses:
        if plain(text.changed(guess).root) == wanted:
            parse(guess, file)
            return guess
    lines = "\n".join(f"  {line}" for line in _entry(name, destination).block_lines())
    reason = "its layout is too unusual to change safely"
    raise CannotSplice(
        f"cannot add the host {name} to {file}: {reason}; "
        f"run `sudo hkswitch edit`, and have these lines below `{HOSTS}:`\n{lines}"
    )


def without_host(data: bytes, file: str, name: str) -> bytes:
    """Return the config without this host, and without `hosts:` if it was the last one.

    Raises:
        ConfigError: If the config is invalid, or is without the host.
        CannotSplice: If the host cannot be removed safely.
    """
    left = {key: value for key, value in destinations_in(data, file).items() if key != name}
    text = ConfigText(data, HOSTS)
    wanted = _plain_hosts(text, left)
    for guess in removals(text, name) if left else section_removals(text):
        if plain(text.changed(guess).root) == wanted:
            parse(guess, file)
            return guess
    reason = "its layout is too unusual to change safely; run `sudo hkswitch edit` and remove it there"
    raise CannotSplice(f"cannot remove the host {name} from {file}: {reason}")


def _is_empty(text: ConfigText) -> bool:
    """Whether the section is there, but not the hosts that it needs."""
    value = None if text.section is None else text.section.value
    return not text.entries and (isinstance(value, Mapping) or (isinstance(value, Scalar) and value.empty))


def _entry(name: str, destination: str) -> NewEntry:
    return NewEntry(yaml_scalar(name), ((SSH, yaml_scalar(destination)),))


def _changes(text: ConfigText, name: str, destination: str) -> Iterator[bytes]:
    """Yield texts that may have another destination of a host, and everything else unchanged."""
    for host in text.entries:
        old = _destination_of(host) if host.key.text == name else None
        if old is None:
            continue
        at = text.offset(old.position)
        for written in (old.text, f'"{old.text}"', f"'{old.text}'"):
            if text.data.startswith(written.encode(), at):
                new = yaml_scalar(destination).encode()
                yield text.data[:at] + new + text.data[at + len(written.encode()) :]


def _destination_of(host: ConfigEntry) -> Scalar | None:
    values = (entry.value for entry in entries_in(host.value) if entry.key.text == SSH)
    return next((value for value in values if isinstance(value, Scalar)), None)


def _plain_hosts(text: ConfigText, hosts: dict[str, str]) -> Plain:
    """Return what the config means with these hosts in place of its own; without any, it has no `hosts`."""
    entries = ((name, ("mapping", (SSH, ("value", to, True)))) for name, to in hosts.items())
    section = ((HOSTS, ("mapping", *entries)),) if hosts else ()
    before = [each.key.text for each in text.sections]
    place = before.index(HOSTS) if HOSTS in before else len(before)
    others = [(key.text, plain(value)) for key, value in text.sections if key.text != HOSTS]
    return ("mapping", *others[:place], *section, *others[place:])
