"""``modvisor logs``: what mods wrote, of one mod or of several in the order of time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..client.connect import connect
from ..options.complete import loaded_mods
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output

if TYPE_CHECKING:
    from ..client.client import Client

Record = dict[str, Any]
"""A line: ``mod`` and ``line``."""


def logs(
    settings: Settings,
    mods: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MOD]...", help="Mods, by id or path. [dim](default: all)[/dim]", autocompletion=loaded_mods
        ),
    ] = None,
    lines: Annotated[
        int, typer.Option("--lines", "-n", metavar="N", min=0, help="Show the last N lines of each mod.")
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
) -> None:
    """Print what mods wrote: their prints, their logging, their last words."""
    output, client = Output(as_json=settings.json), connect(settings)
    names = list(dict.fromkeys(mods or _all(client)))
    width = max(map(len, names), default=0)
    for record in _records(client, output, names, lines, follow):
        text = _on_node(record)
        shown = text if len(names) == 1 else f"{record['mod']:<{width}} | {text}"
        output.item(record, lambda shown=shown: shown)


def _on_node(record: Record) -> str:
    """Return a line, after the node that wrote it if it is one of a cluster."""
    text, node = str(record.get("line", "")), record.get("node")
    return text if node is None else f"{node} | {text}"


def _all(client: Client) -> list[str]:
    """Return all mods: the loaded ones, or those that have left a log."""
    try:
        return [mod["mod_id"] for mod in client.get("/mods")["mods"]]
    except CliError as error:
        if error.code is not ExitCode.NO_NETWORK or client.target.storage is None:
            raise
        left = sorted(path.stem for path in (client.target.storage / "logs").glob("*.log"))
        if not left:
            raise
        return left


def _records(client: Client, output: Output, names: list[str], lines: int, follow: bool) -> Iterator[Record]:
    if follow and len(names) == 1:
        yield from _stream(client, names[0], lines, follow=True)
        return
    told = {name: list(_tail(client, output, name, lines, follow)) for name in names}
    yield from _merged(told)
    if follow:
        yield from _followed(client, told, lines)


def _merged(told: dict[str, list[Record]]) -> Iterator[Record]:
    """Yield the lines of several mods in the order of time. A line without a time stays with the one before."""
    keyed: list[tuple[str, int, Record]] = []
    for records in told.values():
        time = ""
        for record in records:
            time = _time(record) or time
            keyed.append((time, len(keyed), record))
    return (record for _, _, record in sorted(keyed, key=lambda each: each[:2]))


def _time(record: Record) -> str:
    """Return the time that a line begins with: text that sorts as the time does."""
    first = str(record.get("line", "")).partition(" ")[0]
    return first if first[:4].isdigit() and first.endswith("Z") else ""


def _followed(client: Client, told: dict[str, list[Record]], lines: int) -> Iterator[Record]:
    """Yield new lines of several mods as they come, until all logs have ended."""
    coming: SimpleQueue[Record | CliError | None] = SimpleQueue()

    def read(name: str, seen: set[str]) -> None:
        try:
            is_new = False  # the stream begins with the last lines, which were shown already
            for record in _stream(client, name, lines, follow=True):
                is_new = is_new or record["line"] not in seen
                if is_new:
                    coming.put(record)
        except CliError as error:
            coming.put(error)
        finally:
            coming.put(None)

    for name, records in told.items():
        seen = {record["line"] for record in records}
        threading.Thread(target=read, args=(name, seen), daemon=True).start()
    running = len(told)
    while running:
        found = coming.get()
        if isinstance(found, CliError):
            raise found
        if found is None:
            running -= 1
        else:
            yield found


def _stream(client: Client, name: str, lines: int, *, follow: bool) -> Iterator[Record]:
    from ..client.client import segment
    from ..client.meant import meant, mod_ids

    with meant(name, ["no_such_mod"], lambda: mod_ids(client)):
        query = {"lines": lines, "follow": 1 if follow else None, "node": client.target.node}
        for record in client.stream(f"/mods/{segment(name)}/log", **query):
            yield {"mod": name, **record}


def _tail(client: Client, output: Output, name: str, lines: int, follow: bool) -> Iterator[Record]:
    """Yield the last lines, from the network's state directory when it is down: logs are read after crashes."""
    try:
        yield from _stream(client, name, lines, follow=False)
    except CliError as error:
        storage = client.target.storage
        kept = _kept_lines(storage, name, lines) if storage and error.code is ExitCode.NO_NETWORK else None
        if follow or kept is None:
            raise
        output.note(f"no network is running for {client.target}; this is the log it left")
        yield from ({"mod": name, "line": line} for line in kept)


def _kept_lines(storage: Path, mod: str, lines: int) -> list[str] | None:
    """Return the last lines of a mod's log on disk; None if there is no log."""
    from ....ipc.address import InvalidId, check_mod_id, is_mod_path, mod_id_of
    from ...journal import StateDir
    from ...process import read_tail

    try:
        log = StateDir(storage).log_file(mod_id_of(mod) if is_mod_path(mod) else check_mod_id(mod))
        return read_tail(log, lines) if log.exists() else None
    except (InvalidId, OSError):
        return None
