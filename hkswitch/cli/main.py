"""The command line: its commands, and the modules that define them."""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click

from hkswitch import __version__
from hkswitch.cli.help_pages import HelpContext
from hkswitch.cli.options import examples


class LazyCommand(NamedTuple):
    """A command that is imported when it runs: its place (`module:object`), and its summary in the help."""

    place: str
    summary: str


class LazyGroup(click.Group):
    """Commands that are imported when they run: `hkswitch status` does not wait for HomeKit.

    Listing the commands imports none of them: the group holds a stub for each.
    """

    context_class = HelpContext

    def __init__(self, *, lazy_subcommands: Mapping[str, LazyCommand], **kwargs: Any) -> None:  # noqa: ANN401 -- click's
        stubs = {
            name: click.Command(name, short_help=lazy.summary) for name, lazy in lazy_subcommands.items()
        }
        super().__init__(commands=stubs, **kwargs)
        self._places = {name: lazy.place for name, lazy in lazy_subcommands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's
        """Return the names in the order of the table, not alphabetically."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        if cmd_name not in self._places:
            return None
        module, _, name = self._places[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)  # noqa: S101 -- the table below says so
        command.context_class = HelpContext
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from their stubs."""
        rows = [(name, self.commands[name].get_short_help_str(80)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    lazy_subcommands={
        "status": LazyCommand(
            "hkswitch.cli.status_command:status", "Show each group with its units and containers"
        ),
        "start": LazyCommand("hkswitch.cli.actions:start", "Start groups"),
        "stop": LazyCommand("hkswitch.cli.actions:stop", "Stop groups"),
        "restart": LazyCommand("hkswitch.cli.actions:restart", "Restart running groups"),
        "alerts": LazyCommand("hkswitch.cli.alerts:alerts", "Show the last alerts of groups"),
        "pair": LazyCommand("hkswitch.cli.pair:pair", "Show the setup code and QR code"),
        "unpair": LazyCommand("hkswitch.cli.unpair:unpair", "Remove a paired phone"),
        "check": LazyCommand("hkswitch.cli.check:check", "Validate the configuration"),
        "reload": LazyCommand("hkswitch.cli.reload:reload", "Apply a changed configuration"),
        "doctor": LazyCommand("hkswitch.cli.doctor:doctor", "Diagnose problems and suggest fixes"),
        "add": LazyCommand("hkswitch.cli.add:add", "Add a group of units and containers, or of another host"),
        "remove": LazyCommand("hkswitch.cli.remove:remove", "Remove groups from the configuration"),
        "edit": LazyCommand("hkswitch.cli.edit:edit", "Edit the configuration"),
        "host": LazyCommand("hkswitch.cli.host:host", "Connect bridges and other hosts over SSH"),
        "logs": LazyCommand("hkswitch.cli.logs:logs", "Show the log of a group"),
        "audit": LazyCommand("hkswitch.cli.audit:audit", "Show the audit log of the root helper"),
        "diagnostics": LazyCommand("hkswitch.cli.diagnostics:diagnostics", "Print details for a bug report"),
        "demo": LazyCommand("hkswitch.cli.demo:demo", "Try a bridge with simulated units"),
        "import-homebridge": LazyCommand(
            "hkswitch.cli.import_homebridge:import_homebridge", "Import switches from a Homebridge config"
        ),
        "backup": LazyCommand("hkswitch.cli.backup:backup", "Back up the configuration, keys and pairings"),
        "restore": LazyCommand(
            "hkswitch.cli.restore:restore", "Restore the configuration, keys and pairings"
        ),
        "reset": LazyCommand("hkswitch.cli.reset:reset", "Give the bridge a new identity"),
        "run": LazyCommand("hkswitch.cli.run_command:run", "Run the daemon (hkswitch.service does this)"),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("hkswitch status", "sudo hkswitch restart fileserver", "sudo hkswitch pair"),
)
@click.version_option(__version__, prog_name="hkswitch", message="%(prog)s %(version)s")
def commands() -> None:
    """Apple Home switches for systemd services and containers."""
