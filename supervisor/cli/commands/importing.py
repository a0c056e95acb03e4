"""``modvisor import``: write the network file of another framework as one of modvisor."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from ...causes import cause
from ...config import ConfigError, parse_config, read_data
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode, mistakes
from ..terminal.output import Output, write

_DOLLAR = re.compile(r"\$(?=[$\{])")  # in a file of modvisor, '${' begins a variable, and '$$' is one '$'


def import_file(
    settings: Settings,
    path: Annotated[Path, typer.Argument(metavar="THEIRS", help="The network.yaml of an OpenAgents network.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="OURS", help="Write this new file. [dim](default: standard output)[/dim]"
        ),
    ] = None,
) -> None:
    """Write a network file of OpenAgents as one of modvisor. What has no counterpart is told. Theirs stays as it is."""
    try:
        data, notices = _imported(path, output)
    except ConfigError as error:
        document = {"success": False, "file": str(path), "problems": [each.to_dict() for each in error.problems]}
        raise CliError(ExitCode.BAD_CONFIG, mistakes(path, error), document) from None
    text = _text(path, data)
    if output is not None:
        _write_new(output, text)
    printer = Output(as_json=settings.json)
    for notice in notices:
        printer.note(f"warning: {notice}")
    document = {
        "success": True,
        "file": str(path),
        "written": None if output is None else str(output),
        "network": data,
        "notices": [each.to_dict() for each in notices],
    }
    printer.document(
        document, lambda: write(text if output is None else f"{output} is written; try it: modvisor validate {output}")
    )


def _imported(path: Path, output: Path | None) -> tuple[dict[str, Any], list[Any]]:
    """Return the data of a file in our words, and notices. Raises `ConfigError`, also if the new file would have mistakes."""
    data, source = read_data(path)
    source.check()
    if not source.is_translated:
        text = f"{path} is no network file of OpenAgents; 'modvisor run' takes a file of modvisor as it is"
        raise CliError(ExitCode.USAGE, text)
    notices = list(dict.fromkeys(source.warnings))[1:]  # the first one says to import the file
    parse_config(data, base_dir=(output or path).parent)
    return data, notices


def _text(path: Path, data: dict[str, Any]) -> str:
    """Return the text of a network file that means the same."""
    order = ("network", "agents", "agent_groups", "mods")
    sections = {key: data[key] for key in (*order, *data) if key in data}
    written = yaml.safe_dump(_escaped(sections), sort_keys=False, allow_unicode=True, width=110)
    return f"# Imported from {path.name}, a network file of OpenAgents; docs/config.md has all keys.\n{written}"


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return _DOLLAR.sub("$$", value)
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _write_new(file: Path, text: str) -> None:
    try:
        with open(file, "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise CliError(ExitCode.FAILED, f"{file} is there already; choose another name, or remove it") from None
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"cannot write {file}: {cause(error, file)}") from None
