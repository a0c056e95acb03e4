"""How fast the network is, beside the floor of the machine and others that do the same work in the same run.

    python -m benchmarks.speed [--rounds N] [--only ROW ...] [--no-peers] [--full] [--json FILE] [--write FOLDER]
    python -m benchmarks.speed --smoke
    python -m benchmarks.speed --show FILE [--write FOLDER]
    python -m benchmarks.speed.charts FOLDER

A wrong answer, or something left behind, is an exit status of 1; figures are told, goals are met or missed, and fail nothing.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from . import record as records
from .page import page
from .plan import SMOKE, Plan
from .rounds import Run
from .rows import COLUMNS, FLOOR, OURS, ROWS, Row, matching
from .table import table
from .verdict import line

WIDTH = 200  # of the table, where the output is no terminal


def main() -> None:
    options = _options()
    rows = matching(options.only)
    try:
        record = _measured(options, rows) if options.show is None else records.read(options.show)
    except records.BadRecord as error:
        sys.exit(str(error))
    _tell(record, rows, goals=not options.smoke)
    if options.json is not None:
        options.json.write_text(record.to_json())
    if options.write is not None and not record.problems:
        _write(record, options.write)
    sys.exit(bool(record.problems))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="how often all is measured (5)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ROW", help="rows of this name, key or part only"
    )
    parser.add_argument("--no-peers", action="store_true", help="ours and the floor only")
    parser.add_argument("--smoke", action="store_true", help="all of ours once, with tiny counts: does it work?")
    parser.add_argument("--full", action="store_true", help="serve all of a million events, however long it takes")
    parser.add_argument("--json", type=Path, help="also write every round to this file")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write figures.json and figures.md there")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: show what a run has written")
    options = parser.parse_args()
    if options.write is not None and (options.only or options.smoke or options.no_peers):
        parser.error("--write takes a whole run: leave out --only, --smoke and --no-peers, or use --json FILE")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected 1 or more")
    if options.show is None and sys.platform != "linux":
        parser.error("it reads what processes use from /proc, so it needs Linux")
    try:
        matching(options.only)
    except ValueError as error:
        parser.error(str(error))
    return options


def _measured(options: argparse.Namespace, rows: list[Row]) -> records.Record:
    plan = SMOKE if options.smoke else Plan()
    if options.rounds is not None:
        plan = replace(plan, rounds=options.rounds)
    if options.full:
        plan = replace(plan, serving=None)
    logging.getLogger("modvisor").setLevel(logging.ERROR)  # that killed processes have ended is no news here
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = records.Record(date, records.machine(), records.versions(), asdict(plan))
    console = Console(stderr=True)
    run = Run(plan, rows, record, lambda text: console.print(f"[dim]{text} …[/dim]"))
    run.go(peers=not (options.no_peers or options.smoke), curves=not options.only)
    return record


def _tell(record: records.Record, rows: list[Row], goals: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table([line(row, record.rounds) for row in rows], _columns(record), goals))
    if not goals:
        console.print("measured with tiny counts, to see that it works: no figure is meant")
    for column, why in record.absent.items():
        console.print(f"{COLUMNS[column]}: {why}")
    for text in [*record.notes, *(f"PROBLEM {problem}" for problem in record.problems)]:
        console.print(text, markup=False)


def _columns(record: records.Record) -> list[str]:
    return [column for column in COLUMNS if column in (OURS, FLOOR) or any(column in each for each in record.rounds)]


def _write(record: records.Record, folder: Path) -> None:
    lines = [line(row, record.rounds) for row in ROWS]
    (folder / "figures.json").write_text(record.to_json())
    (folder / "figures.md").write_text(page(record, lines, _columns(record)))


if __name__ == "__main__":
    main()
