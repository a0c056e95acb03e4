"""Measure processor time per event, memory, and starts of one checkout or of two.

    python -m benchmarks.speed.cost [--rounds N] [--json] [--quick]
    python -m benchmarks.speed.cost --against /path/to/other/.venv/bin/python

With `--against`, this interpreter's modvisor and the other's take turns, and the ratio (this
checkout over the other) is taken within each pair. The cost of an event with 64 or 256 in flight,
through one mod or two, or durable, is compared batch by batch, of two networks that wait for each
other. All else is compared in rounds, each in new processes.
Figures of CPU are scaled processor time (`calibration`). All other times are wall clock: believe
only differences that are larger than their spread.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .asking import Measure, by_line
from .calibration import Scale
from .timing import now
from .verdict import Spread

BENCHMARKS = Path(__file__).parent.parent
TIMEOUT = 120.0
BATCHES, QUICK_BATCHES = 12, 2  # pairs of batches for each round
COMMANDS = 3  # starts of a command in a round; its figure is their median
FORGOTTEN = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
WHERE = "import pathlib, modvisor.supervisor as found; print(pathlib.Path(found.__file__).parent.parent)"

LABELS = {
    "supervisor_us": "supervisor, CPU µs per event, 64 in flight, scaled",
    "worker_us": "worker, CPU µs per event, 64 in flight, scaled",
    "supervisor_256_us": "supervisor, CPU µs per event, 256 in flight, scaled",
    "worker_256_us": "worker, CPU µs per event, 256 in flight, scaled",
    "supervisor_path_us": "supervisor, CPU µs per event, two mods in a row, 64 in flight, scaled",
    "passing_us": "worker that passes it on, CPU µs per event, scaled",
    "answering_us": "worker that then answers it, CPU µs per event, scaled",
    "supervisor_durable_us": "supervisor, CPU µs per durable event, 64 in flight, scaled",
    "worker_durable_us": "worker, CPU µs per durable event, 64 in flight, scaled",
    "durable_per_s": "durable events per second, 64 in flight",
    "durable_p99_us": "durable events, p99 with 64 in flight, µs",
    "off_p50_us.cpu_us": "supervisor, CPU µs per event, one at a time, polling off, scaled",
    "off_p50_us.workers_us": "worker, CPU µs per event, one at a time, polling off, scaled",
    "rtt_p50_us": "round trip p50, µs",
    "off_p50_us": "round trip p50, polling off, µs",
    "uss_idle_MB": "idle worker, USS, MB",
    "uss_busy_MB": "used worker, USS, MB",
    "supervisor_rss_MB": "supervisor with 4 bundled mods, RSS, MB",
    "supervisor_uss_MB": "supervisor with 4 bundled mods, USS, MB",
    "start_4_mods_ms": "start with 4 bundled mods, ms",
    "start_4_mods_cpu_ms": "start with 4 bundled mods, supervisor's CPU ms, scaled",
    "help_ms": "modvisor --help, ms",
    "help_cpu_ms": "modvisor --help, CPU ms, scaled",
    "version_ms": "modvisor version, ms",
    "version_cpu_ms": "modvisor version, CPU ms, scaled",
    "job_step_us": "one step of the fixed job, µs (not scaled)",
}

Round = dict[str, float]


class Checkout:
    """A modvisor to measure: what `python` imports."""

    def __init__(self, python: str, home: Path) -> None:
        self.python = python
        self._home = home
        self.root = self._output("-c", WHERE).strip()

    def warm_up(self) -> None:
        """Start it once, so that its files are read and its bytecode is written."""
        self._output("-m", "benchmarks.speed.cost_round", "start", "quick")
        self._command("help", "--help")

    def round(self, quick: bool) -> Round:
        words = ["quick"] if quick else []
        found: Round = {}
        for parts in (("polled", "unpolled", "memory"), ("start",)):
            found |= json.loads(self._output("-m", "benchmarks.speed.cost_round", *parts, *words))
        for name, word in (("help", "--help"), ("version", "version")):
            starts = [self._command(name, word) for _ in range(1 if quick else COMMANDS)]
            found |= {key: statistics.median(start[key] for start in starts) for key in starts[0]}
        return found

    @contextmanager
    def batches(self, quick: bool) -> Iterator[Measure]:
        """Start a network. Yield a function that measures one batch."""
        command = [self.python, "-m", "benchmarks.speed.cost_round", "batches", *(["quick"] if quick else [])]
        how = {name: value for name, value in self.how().items() if name in ("cwd", "env")}
        with by_line(command, **how) as measure:
            yield measure

    def _output(self, *words: str) -> str:
        done = subprocess.run([self.python, *words], **self.how(), text=True, check=False)
        if done.returncode:
            sys.exit(f"{self.python} {' '.join(words)}:\n{done.stderr}")
        return done.stdout

    def _command(self, name: str, word: str) -> Round:
        """Start the command line once."""
        command = [str(Path(self.python).with_name("modvisor")), word]
        with Scale() as scale:
            used, begin = _children_cpu(), now()
            subprocess.run(command, **self.how(), check=True)
            used, took = _children_cpu() - used, now() - begin
        return {f"{name}_ms": took * 1e3, f"{name}_cpu_ms": used * 1e3 * scale.factor}

    def how(self, timeout: float = TIMEOUT) -> dict[str, Any]:
        """Return how to run a process with our `benchmarks` and the interpreter's own `modvisor`."""
        environment = {name: value for name, value in os.environ.items() if name not in FORGOTTEN}
        environment["PYTHONHASHSEED"] = "0"  # the same order of sets and dicts in all
        return {"cwd": self._home, "env": environment, "capture_output": True, "timeout": timeout}


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(checkouts: Sequence[Checkout], rounds: int, quick: bool) -> list[list[Round]]:
    """Let the checkouts take turns, in changing order. Return the rounds of each."""
    found: list[list[Round]] = [[] for _ in checkouts]
    turns = list(zip(checkouts, found, strict=True))
    for checkout in checkouts:
        checkout.warm_up()
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} …", file=sys.stderr, flush=True)
        for checkout, its_rounds in turns if number % 2 == 0 else reversed(turns):
            its_rounds.append(checkout.round(quick))
    return found


def batch_by_batch(checkouts: Sequence[Checkout], pairs: int, quick: bool) -> list[list[Round]]:
    """Let networks of the checkouts, one of each, take turns. Return the batches of each."""
    found: list[list[Round]] = [[] for _ in checkouts]
    with ExitStack() as stack:
        turns = [
            (stack.enter_context(checkout.batches(quick)), its) for checkout, its in zip(checkouts, found, strict=True)
        ]
        for measure, _ in turns:
            measure()  # until it is ready
        for number in range(pairs):
            for measure, its in turns if number % 2 == 0 else reversed(turns):
                its.append(measure())
    return found


def fresh_networks(checkouts: Sequence[Checkout], rounds: int, quick: bool) -> list[list[Round]]:
    """Measure batch by batch in several pairs of networks: memory layout changes the speed."""
    found: list[list[Round]] = [[] for _ in checkouts]
    for number in range(rounds):
        print(f"batches {number + 1} of {rounds} …", file=sys.stderr, flush=True)
        pairs = QUICK_BATCHES if quick else BATCHES
        for its, more in zip(found, batch_by_batch(checkouts, pairs, quick), strict=True):
            its += more
    return found


def ratios(ours: Iterable[Round], theirs: Iterable[Round]) -> list[Round]:
    """Return the ratios of each pair of rounds."""
    pairs = zip(ours, theirs, strict=True)
    return [{key: mine[key] / other[key] for key in mine if key in other} for mine, other in pairs]


def spreads(rounds: Sequence[Round], of: Callable[[list[float]], Spread | None] = Spread.of) -> dict[str, Spread]:
    found = {key: of([each[key] for each in rounds]) for key in LABELS if key in rounds[0]}
    return {key: spread for key, spread in found.items() if spread is not None}


def middle_half(values: list[float]) -> Spread:
    """Return the median and the quartiles: of many short batches some are always disturbed."""
    low, median, high = statistics.quantiles(values, n=4)
    return Spread(median, low, high)


def lines(columns: Sequence[dict[str, Spread]]) -> Iterable[str]:
    for key, label in LABELS.items():
        if key in columns[0]:
            yield f"{label:76} " + "  ".join(_cell(column[key]) for column in columns)


def _cell(spread: Spread) -> str:
    return f"{spread.median:8.3f} ({spread.low:.3f} to {spread.high:.3f})".ljust(34)


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="modvisor-cost-") as home:
        Path(home, "benchmarks").symlink_to(BENCHMARKS)
        pythons = [sys.executable, *filter(None, [options.against])]
        checkouts = [Checkout(python, Path(home)) for python in pythons]
        rounds = measured(checkouts, options.rounds, options.quick)
        batches = fresh_networks(checkouts, options.rounds, options.quick)
    if len(checkouts) == 2:
        rounds.append(ratios(*rounds))
        batches.append(ratios(*batches))
    columns = [spreads(some, middle_half) | spreads(each) for some, each in zip(batches, rounds, strict=True)]
    heads = ["this", "other", "this / other"][: len(columns)]
    if options.json:
        told = zip(heads, columns, strict=True)
        found = {head: {key: asdict(value) for key, value in each.items()} for head, each in told}
        print(json.dumps({"rounds": options.rounds, "roots": [each.root for each in checkouts], **found}, indent=1))
        return
    for head, checkout in zip(heads, checkouts, strict=False):
        print(f"{head}: {checkout.root}")
    title = f"medians of {options.rounds} rounds (smallest to largest; many in flight: middle half)"
    print(f"{title:76} " + "".join(head.ljust(36) for head in heads))
    print("\n".join(lines(columns)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often all is measured (5)")
    parser.add_argument("--against", metavar="PYTHON", help="the interpreter of another checkout, to take turns with")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it work?")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected 1 or more")
    if options.against is not None:
        options.against = os.path.abspath(options.against)  # not resolved: a link tells which environment it is
    return options


if __name__ == "__main__":
    main()
