"""Print docs/commands.md: ``make docs``.

The page has every command with its arguments, options and examples, as its `--help` has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from modvisor.supervisor.cli.app import app
from modvisor.supervisor.cli.options.examples import EXAMPLES
from modvisor.supervisor.cli.options.options import SHARED_PANEL

PAGE = Path(__file__).with_name("commands.md")

_HEAD = """\
# All commands

What `--help` shows, on one page. [The modvisor command](cli.md) explains the commands, with what they print, their exit codes and their JSON documents.

"""  # noqa: E501
_MARKUP = re.compile(r"\[/?(?:dim|bold)\]")


def printed() -> str:
    """Return the page."""
    program = get_command(app)
    commands = dict(_commands(program, ""))
    index = "".join(
        f"| [`{name}`](#modvisor-{name.replace(' ', '-')}) | {_line(command.help)} |\n"
        for name, command in commands.items()
    )
    shared = _options([each for each in program.params if _is_shared(each)])
    return "\n".join([
        f"{_HEAD}| command | |\n|---|---|\n{index}",
        f"## Options of every command\n\n{shared}",
        *(_section(name, command) for name, command in commands.items()),
    ])  # fmt: skip


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in sorted(group.commands.items()):
        below = getattr(command, "commands", None)
        if below is None:
            yield f"{prefix}{name}", command
        else:
            yield from _commands(command, f"{prefix}{name} ")


def _section(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each not in arguments and not _is_shared(each)]
    usage = " ".join([f"modvisor {name}", *(each.metavar for each in arguments)])
    parts = [f"## modvisor {name}", _text(command.help), f"    {usage}"]
    parts += [_arguments(arguments)] if arguments else []
    parts += [_options(options)] if options else []
    parts += [_examples(EXAMPLES[name])] if name in EXAMPLES else []
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _arguments(arguments: list[Any]) -> str:
    return "| argument | |\n|---|---|\n" + "".join(f"| `{each.metavar}` | {_line(each.help)} |\n" for each in arguments)


def _options(options: list[Any]) -> str:
    return "| option | |\n|---|---|\n" + "".join(f"| {_names(each)} | {_line(each.help)} |\n" for each in options)


def _names(option: Any) -> str:
    value = f" {option.metavar}" if option.metavar else ""
    first, *others = [*option.opts, *option.secondary_opts]
    return ", ".join(f"`{each}`" for each in (first + value, *others))


def _examples(examples: tuple[tuple[str, str], ...]) -> str:
    width = max(len(line) for line, _ in examples)
    lines = "".join(f"$ {line:<{width}}  # {what}\n" for line, what in examples)
    return f"```console\n{lines}```\n"


def _line(text: str | None) -> str:
    return " ".join(_text(text).split()).replace("|", "\\|")


def _text(text: str | None) -> str:
    return _MARKUP.sub("", text or "").strip()


def _is_shared(param: Any) -> bool:
    return getattr(param, "rich_help_panel", None) == SHARED_PANEL


if __name__ == "__main__":
    text = printed()
    if not PAGE.exists() or PAGE.read_text("utf-8") != text:
        PAGE.write_text(text, "utf-8")
