"""What a command says when its network file is missing."""

from __future__ import annotations

from pathlib import Path

from ...causes import similar_file
from ..settings import DEFAULT_FILE
from ..terminal.exits import CliError, ExitCode


def want_file(file: Path) -> None:
    """Raise `CliError` with the next step if there is no such network file."""
    if file.exists():
        return
    if file == Path(DEFAULT_FILE):
        text = f"there is no {file} in this folder; make one with 'modvisor init', or name another: modvisor run FILE"
    elif not file.absolute().parent.exists():
        text = f"there is no network file {file}: the folder {file.absolute().parent} does not exist"
    else:
        meant = similar_file(file.absolute())
        text = f"there is no network file {file}" + (f"; did you mean {meant!r}?" if meant else "")
    raise CliError(ExitCode.BAD_CONFIG, text)
