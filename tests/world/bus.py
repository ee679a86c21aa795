"""A simulated system bus: who is on it, which signals each wants, and what happens when it goes away.

It must not know what systemd does.
"""

import errno
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

import sdbus

from hkswitch.systemd.connection import BUS, BUS_PATH, SYSTEMD
from tests.world.client import ClientBus
from tests.world.messages import Delay, Message, Rule, read_rule


class Server(Protocol):
    """systemd, as the bus knows it."""

    def called(self, client: ClientBus, serial: int, message: Message) -> None:
        """Answer a call by `client.answer`, now or later."""

    def left(self, client: ClientBus) -> None:
        """Forget a connection that ended."""


class SimulatedBus:
    """The bus: it has one server, systemd, whose name can have no owner."""

    def __init__(self, server: Server, delay_seconds: Delay) -> None:
        self.delay_seconds = delay_seconds
        self.owner = ""
        """systemd's unique name; empty while it is not on the bus."""
        self._server = server
        self._names = itertools.count(1)
        self._clients: dict[str, ClientBus] = {}
        self._is_up = True
        self.own()

    def open(self, lose: Callable[[], None]) -> ClientBus:
        """A new connection; raises sdbus's error if there is no bus."""
        if not self._is_up:
            raise sdbus.SdBusLibraryError(f"returned error number: {errno.ECONNREFUSED}")
        client = ClientBus(self, self._new_name(), lose)
        self._clients[client.name] = client
        return client

    def own(self) -> None:
        """Give systemd its name, under which it was not known before."""
        self._change_owner(self._new_name())

    def disown(self) -> None:
        """Take systemd's name away."""
        self._change_owner("")

    def stop(self) -> None:
        """Break all connections, systemd's too."""
        self._is_up = False
        self.owner = ""
        for client in list(self._clients.values()):
            client.break_off()
            self.leave(client)

    def start(self) -> None:
        """Be there again, and systemd on it."""
        self._is_up = True
        self.own()

    def destroy(self) -> None:
        """Leave no timers."""
        for client in self._clients.values():
            client.destroy()

    def broadcast(self, message: Message) -> None:
        """Send a signal of systemd's to those who have a match for it."""
        message.sender = self.owner
        self._send(SYSTEMD, message)

    def called(self, client: ClientBus, serial: int, message: Message) -> None:
        """Take a call on its way to systemd, or answer it."""
        if message.destination == BUS:
            client.answer(serial, self._answer(client, message))
        elif not self.owner:
            client.answer(serial, sdbus.DbusServiceUnknownError(f"The name {SYSTEMD} is not on the bus"))
        else:
            self._server.called(client, serial, message)

    def leave(self, client: ClientBus) -> None:
        """Forget a connection, and all that it wanted."""
        if self._clients.pop(client.name, None) is not None:
            self._server.left(client)

    def _new_name(self) -> str:
        return f":1.{next(self._names)}"

    def _change_owner(self, owner: str) -> None:
        before, self.owner = self.owner, owner
        message = Message(BUS_PATH, BUS, "NameOwnerChanged", (SYSTEMD, before, owner))
        message.sender = BUS
        self._send(BUS, message)

    def _send(self, sender: str, message: Message) -> None:
        arg0 = message.body[0] if message.body and isinstance(message.body[0], str) else None
        wanted = {
            Rule(sender, message.interface, message.member, path, arg)
            for path in (None, message.path)
            for arg in (None, arg0)
        }
        for client in self._clients.values():
            if not wanted.isdisjoint(client.rules):
                client.signal(message)

    def _answer(self, client: ClientBus, message: Message) -> Message | Exception:
        body: tuple[Any, ...] = ()
        match message.member, message.body:
            case "GetNameOwner", ("org.freedesktop.systemd1",) if self.owner:
                body = (self.owner,)
            case "GetNameOwner", (name,):
                return sdbus.DbusNameHasNoOwnerError(f"Could not get owner of name '{name}': no such name")
            case "AddMatch", (text,):
                client.rules[read_rule(text)] += 1
            case "RemoveMatch", (text,):
                rule = read_rule(text)
                if rule not in client.rules:
                    return sdbus.DbusMatchRuleNotFound("The given match rule wasn't found")
                client.rules[rule] -= 1
                client.rules += Counter()  # forgets those of which none is left
            case _:
                raise AssertionError((message.member, message.body))
        return Message("", "", "", body)
