"""Measure how fast the network is, beside the floor of the machine and beside others.

    python -m benchmarks.speed [--rounds N] [--only ROW ...] [--no-peers] [--full]
        [--against PYTHON] [--json FILE] [--write FOLDER]
    python -m benchmarks.speed --smoke
    python -m benchmarks.speed --show FILE [--write FOLDER]

A wrong answer ends the run. Leftovers of a part give exit status 1. A missed goal is reported.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from .asking import PEERS, other_checkout
from .chart import draw
from .plan import SMOKE, Plan
from .record import Record, machine, read
from .rows import COLUMNS, Row, matching
from .run import Run
from .showing import page, table

WIDTH = 240  # of the table, where the output is no terminal


def main() -> None:
    options = _options()
    rows = matching(options.only)
    record = _measured(options, rows) if options.show is None else read(options.show)
    _tell(record, rows, goals=not options.smoke)
    if options.json is not None:
        options.json.write_text(record.to_json())
    if options.write is not None and not record.problems:
        (options.write / "figures.md").write_text(page(record))
        (options.write / "speed.svg").write_text(draw(record))
    sys.exit(bool(record.problems))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="how often everything is measured (5)")
    parser.add_argument("--only", action="append", default=[], metavar="ROW", help="rows of this name, key or part")
    parser.add_argument("--no-peers", action="store_true", help="modvisor and the floor only")
    parser.add_argument("--against", metavar="PYTHON", help="durable events of another checkout, by its interpreter")
    parser.add_argument("--smoke", action="store_true", help="modvisor and the floor once, with tiny counts")
    parser.add_argument("--full", action="store_true", help="serve all of a million events, however long it takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every round to this file")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write figures.md and speed.svg there")
    parser.add_argument("--show", type=Path, metavar="FILE", help="measure nothing: show what --json has written")
    options = parser.parse_args()
    if options.write is not None and (options.only or options.smoke or options.no_peers):
        parser.error("--write takes a whole run: leave out --only, --smoke and --no-peers, or use --json FILE")
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected 1 or more")
    if options.show is None and sys.platform != "linux":
        parser.error("it reads from /proc what processes use, so it needs Linux")
    try:
        matching(options.only)
    except ValueError as error:
        parser.error(str(error))
    return options


def _measured(options: argparse.Namespace, rows: list[Row]) -> Record:
    plan = SMOKE if options.smoke else Plan()
    if options.rounds is not None:
        plan = replace(plan, rounds=options.rounds)
    if options.full:
        plan = replace(plan, serving=None)
    logging.getLogger("modvisor").setLevel(logging.ERROR)  # processes are killed on purpose here
    record = Record(datetime.datetime.now(datetime.UTC).date().isoformat(), machine())
    console = Console(stderr=True)
    run = Run(plan, rows, record, lambda text: console.print(f"[dim]{text} …[/dim]"))
    others = [other_checkout(os.path.abspath(options.against))] if options.against is not None else []
    run.go([*others, *(() if options.no_peers or options.smoke else PEERS)])
    return record


def _tell(record: Record, rows: list[Row], goals: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(table(record, rows, goals))
    if not goals:
        console.print("measured with tiny counts, to see that it works: the figures mean nothing")
    absent = [f"{COLUMNS[column]}: {why}" for column, why in record.absent.items()]
    for text in [*absent, *record.notes, *(f"PROBLEM {problem}" for problem in record.problems)]:
        console.print(text, markup=False)


if __name__ == "__main__":
    main()
