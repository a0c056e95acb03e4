"""The ``modvisor`` program: which commands there are, in the order of its help."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from . import dlq, events, life, mods, scaffold, versions
from .exits import ExitCode
from .options import command, root
from .output import complain, give_up_stdout
from .streams import CannotWrite, prepare

PROGRAM = "modvisor"
NETWORK, MODS, EVENTS, AUTHORS = "The network", "Its mods", "Its events", "Writing mods"

app = typer.Typer(
    name=PROGRAM,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,  # a traceback is for the authors of modvisor: keep it plain
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
@root
def modvisor() -> None:
    """An event network for AI agents whose mods each run in a worker process."""


def _add(panel: str, *functions: Callable[..., None]) -> None:
    for function in functions:
        app.command(function.__name__, rich_help_panel=panel)(command(function))


_add(NETWORK, life.run, life.validate, life.doctor, life.reconfigure, life.backup)
_add(NETWORK, life.stop, life.version)
app.command("mods", rich_help_panel=MODS)(command(mods.available))
_add(MODS, mods.ps, mods.stats, mods.load, mods.unload, mods.reload, mods.swap, mods.restart)
_add(MODS, versions.audience, versions.promote, versions.rollback, mods.crashes)
app.command("logs", rich_help_panel=MODS)(command(mods.logs, short_file=False))  # -f follows
_add(EVENTS, events.send, events.events, events.replay)
_add(AUTHORS, scaffold.new)

letters = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(letters, name="dlq", rich_help_panel=EVENTS)


@letters.callback()
@root
def dead_letters() -> None:
    """Dead letters: events that were given up because their mod died of them, again and again."""


for name, function in {"ls": dlq.ls, "show": dlq.show_letter, "replay": dlq.replay, "purge": dlq.purge}.items():
    letters.command(name)(command(function))


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
