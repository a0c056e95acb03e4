"""The ``modvisor`` program: which commands there are, in the order of its help.

Each command is imported and built when it is asked for: `modvisor ps` waits for no other one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.main import get_command

from .options.helping import HelpedCommand, HelpedGroup
from .options.options import command, root
from .terminal.exits import ExitCode
from .terminal.output import complain, give_up_stdout
from .terminal.streams import CannotWrite, prepare

PROGRAM = "modvisor"
NETWORK, MODS, EVENTS, AUTHORS = "The network", "Its mods", "Its events", "Writing mods"

COMMANDS = (
    (NETWORK, "init", "init"),
    (NETWORK, "life", "run"),
    (NETWORK, "starting", "start"),
    (NETWORK, "status", "status"),
    (NETWORK, "life", "validate doctor reconfigure backup restore stop"),
    (NETWORK, "open", "open=open_page"),
    (NETWORK, "version", "version"),
    (NETWORK, "importing", "import=import_file"),
    (NETWORK, "overview", "top graph"),
    (NETWORK, "invites", "invite"),
    (NETWORK, "tokens", "token"),
    (NETWORK, "audits", "audit"),
    (NETWORK, "cluster.server", "cluster"),
    (NETWORK, "cluster.nodes", "node"),
    (NETWORK, "passwords", "hash-password=hash_password"),
    (MODS, "mods", "mods=available ps stats load unload reload swap restart"),
    (MODS, "versions", "audience promote rollback"),
    (MODS, "mods", "crashes"),
    (MODS, "logs", "logs"),
    (EVENTS, "events", "send events replay"),
    (EVENTS, "agent", "agent"),
    (AUTHORS, "scaffold", "new"),
    (AUTHORS, "schema", "schema completion"),
    (EVENTS, "dlq", "dlq"),
)
"""Panel of the help, file in `commands/`, its commands: each with its function if that has another name."""

GROUPS = {
    "cluster": (
        "up down cluster.nodes:status cluster.moving:import=import_state cluster.moving:export=export_state",
        "A network on several machines: a NATS server to try one out, and how it is.",
    ),
    "node": ("ls drain", "The nodes of a cluster."),
    "dlq": (
        "ls show=show_letter replay purge",
        "Dead letters: events that were given up because their mod died of them, again and again.",
    ),
    "audit": ("show verify", "The audit: who did what, when, from where, with which outcome."),
    "token": ("create list=ls revoke", "Tokens of operators, who reach the network with --url."),
    "invite": ("create list=ls revoke", "Invites: codes with which agents register, once, until they expire."),
}
"""Groups of commands: the commands of each, with their functions as in `COMMANDS`, and its help.

A command whose function stands in another file than that of its group has that before a colon.
"""


class _Lazily(MutableMapping[str, Any]):
    """Commands by name. Each is built when it is looked up."""

    def __init__(self, homes: dict[str, tuple[str, str, str]]) -> None:
        self._homes = homes  # name -> file, function, panel
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = _build(name, *self._homes[name])
        return self._built[name]

    def __setitem__(self, name: str, built: Any) -> None:
        self._built[name] = built

    def __delitem__(self, name: str) -> None:
        del self._homes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


class _Program(HelpedGroup):
    """The program: it knows the names of all commands, and builds those that are used."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.commands = _Lazily(_homes())

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


def _homes() -> dict[str, tuple[str, str, str]]:
    return {
        name: (file, function or name, panel)
        for panel, file, words in COMMANDS
        for name, _, function in (word.partition("=") for word in words.split())
    }


def _build(name: str, file: str, function: str, panel: str) -> Any:
    if name in GROUPS:
        group: Any = get_command(_group(name, file, *GROUPS[name]))
        group.rich_help_panel = panel
        return group
    alone = _typer()
    _add(alone, name, file, function, panel)
    return get_command(alone)


def _group(name: str, file: str, words: str, text: str) -> typer.Typer:
    def about() -> None: ...

    about.__doc__ = text
    group = _typer(name=name, cls=HelpedGroup, no_args_is_help=True)
    group.callback()(root(about))
    for each, _, function in (word.partition("=") for word in words.split()):
        home, _, name_there = each.rpartition(":")
        _add(group, name_there, home or file, function or name_there, None)
    return group


def _add(to: typer.Typer, name: str, file: str, function: str, panel: str | None) -> None:
    made = getattr(import_module(f".commands.{file}", __package__), function)
    short = name != "logs"  # its -f follows
    to.command(name, cls=HelpedCommand, rich_help_panel=panel)(command(made, short_file=short))


def _typer(**more: Any) -> typer.Typer:
    # A traceback is for the authors of modvisor: keep it plain.
    return typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False, **more)


app = typer.Typer(
    name=PROGRAM,
    cls=_Program,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .commands.version import version_text

        print(version_text())
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", "-V", help="Print the version and exit.", callback=_print_version, is_eager=True)
]


@app.callback()
@root
def modvisor(version: Version = False) -> None:
    """An event network for AI agents whose mods each run in a worker process.

    Begin with 'modvisor init' in an empty folder, then 'modvisor run'.
    """


def main() -> None:
    """Run the command line; the ``modvisor`` script calls this."""
    prepare()
    try:
        try:
            app(prog_name=PROGRAM)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # ``modvisor ps | head -0``
        give_up_stdout()
        sys.exit(ExitCode.DONE)
    except CannotWrite as error:
        give_up_stdout()
        complain(f"cannot write to standard output: {error.strerror}")
        sys.exit(ExitCode.FAILED)
