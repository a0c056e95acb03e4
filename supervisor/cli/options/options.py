"""Give every command the shared options, and turn its expected failures into exit codes.

The options may stand before or after the command (``modvisor --json ps``, ``modvisor ps --json``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, complain, give_up_stdout

_META = "modvisor.settings"
SHARED_PANEL = "Which network, and for whom"
"""The options of every command, in the help of the program; the help of a command leaves them out."""

# As typer wants them: a parameter with its annotation, shared by all commands.
_ANNOTATIONS: dict[str, Any] = {
    "json": Annotated[
        bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.", rich_help_panel=SHARED_PANEL)
    ],
    "file": Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", rich_help_panel=SHARED_PANEL,
            help="The network file. [dim](default: MODVISOR_FILE, else ./network.yaml)[/dim]",
        ),
    ],
    "socket": Annotated[
        Path | None,
        typer.Option("--socket", metavar="PATH", help="The admin socket of the network.", rich_help_panel=SHARED_PANEL),
    ],
    "url": Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", rich_help_panel=SHARED_PANEL,
            help="Reach the network over HTTP, such as http://127.0.0.1:8700. [dim](default: MODVISOR_URL)[/dim]",
        ),
    ],
    "token": Annotated[
        str | None,
        typer.Option(
            "--token", metavar="TOKEN", rich_help_panel=SHARED_PANEL,
            help="The admin token, with --url. Other users can see it here: better use MODVISOR_TOKEN.",
        ),
    ],
    "node": Annotated[
        str | None,
        typer.Option(
            "--node", metavar="NODE", rich_help_panel=SHARED_PANEL,
            help="One node of a cluster. [dim](default: MODVISOR_NODE, else all nodes)[/dim]",
        ),
    ],
}  # fmt: skip
_LONG_FILE = Annotated[
    Path | None,
    typer.Option("--file", metavar="FILE", help="The network file.", rich_help_panel=SHARED_PANEL),
]


def root(function: Callable[..., None]) -> Callable[..., None]:
    """Make the callback of the program or of a group of commands: it keeps the options before the command."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())

    def run(ctx: typer.Context, **given: Any) -> None:
        ctx.meta[_META] = settings_of(ctx, {name: given.pop(name) for name in _ANNOTATIONS})
        function(**given)

    return _with_signature(run, function, [_context(), *_keyword_only(own), *_parameters(_ANNOTATIONS)])


def command(function: Callable[..., None], *, short_file: bool = True) -> Callable[..., None]:
    """Make a command of ``function(settings, …its own parameters…)``; expected failures become exit codes.

    Args:
        short_file: whether ``-f`` is ``--file`` here too; False where it means something else.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = _ANNOTATIONS if short_file else {**_ANNOTATIONS, "file": _LONG_FILE}

    def run(ctx: typer.Context, **given: Any) -> None:
        after = {name: given.pop(name) for name in shared}
        settings = settings_of(ctx, after)
        with _Exits(settings):
            function(settings, **given)

    return _with_signature(run, function, [_context(), *_keyword_only(own), *_parameters(shared)])


def settings_of(ctx: typer.Context, after: dict[str, Any]) -> Settings:
    """Merge the options before and after the command; those after it win."""
    before: Settings = ctx.meta.get(_META) or Settings()
    return replace(before, **{name: value for name, value in after.items() if value})


def settings_so_far(ctx: typer.Context) -> Settings:
    """Return the settings of a command line that is still being typed: the callback of `root` does not run then."""
    given: dict[str, Any] = {}
    for each in _from_the_root(ctx):
        given |= {name: value for name, value in each.params.items() if value}
    given |= {name: Path(given[name]) for name in ("file", "socket") if given.get(name)}  # not yet converted
    return settings_of(ctx, {each.name: given.get(each.name) for each in fields(Settings)})


def _from_the_root(ctx: Any) -> list[Any]:
    """Return the contexts of the program, of its group if there is one, and of the command."""
    return [] if ctx is None else [*_from_the_root(ctx.parent), ctx]


class _Exits:
    """Turn expected failures into a message, a JSON document and an exit code. Any other one is a bug: let it out."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, CliError):
            complain(str(error))
            if self._settings.json:
                Output(as_json=True).item(error.document(), str)
            raise typer.Exit(error.code)
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(ExitCode.INTERRUPTED)
        if isinstance(error, BrokenPipeError):  # ``modvisor events | head``: the reader has gone
            give_up_stdout()
            raise typer.Exit(ExitCode.DONE)


def _context() -> inspect.Parameter:
    return inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def _keyword_only(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]


def _parameters(annotations: dict[str, Any]) -> list[inspect.Parameter]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(name, kind, annotation=each, default=_DEFAULTS.get(name))
        for name, each in annotations.items()
    ]


_DEFAULTS = {"json": False}


def _with_signature(
    run: Callable[..., None], function: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    """Give ``run`` the name and signature of ``function``, from which typer reads names, types and help."""
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return run
