"""Compare what was promised with what happened. Each function returns in words what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from modvisor.ipc.errors import Code
from modvisor.supervisor.process.crashes import Cause

from ..census import Marked, is_alive
from .diaries import Beginning, Diaries, Diary
from .ledger import Ledger
from .load import Load
from .mischief import TABLE
from .outside import End, Outside
from .players import MAD, STEADY, settings_of
from .schedule import Act

SHOWN = 5  # problems of each kind
UNLOADING = 10.0  # seconds, at most, of an unload
STARTING = 5.0  # seconds, at most, until a start that was cut off is reported
GROWTH = 1.1
ROOM = 24_000_000
"""Growth of memory allowed between the second and the last third of the chaos: a share, plus bytes.

The bytes are for bounded buffers that are not full yet: remembered answers, logs, crash reports.
"""


def events(ledger: Ledger, load: Load, letters: dict[int, str]) -> Iterator[str]:
    """Check that every event ended once, and that its sender was told.

    Args:
        letters: number of each dead letter in the store to the id of its event.
    """
    yield from _some("lost: no answer to event {} for {}, {}", ledger.lost(), ledger)
    yield from _some("event {} for {}, {}, was answered twice", ledger.told_twice, ledger)
    yield from _some("event {} for {} failed without a reason", ledger.nameless, ledger)
    yield from load.wrong[:SHOWN]
    told = {letter: f"e{number}" for letter, number in ledger.letters.items()}
    for letter in sorted(told.keys() | letters.keys()):
        if told.get(letter) != letters.get(letter):
            yield f"dead letter {letter}: its sender was told of {told.get(letter)}, the store has {letters.get(letter)}"
    if len(told) != sum(1 for _ in ledger.numbers(Code.DEAD_LETTERED)):
        yield "two events were told the same dead letter"


def handling(ledger: Ledger, diaries: Diaries) -> Iterator[str]:
    """Check that the mods handled events as often, and when, as fits what the senders were told."""
    for number in range(ledger.sent):
        found = diaries.beginnings.get(number, [])
        yield from (f"event {number} for {ledger.mod(number)}, {ledger.outcome(number)}: {problem}"
                    for problem in _handled(ledger, number, found))  # fmt: skip
    for number in diaries.beginnings.keys() - range(ledger.sent):
        yield f"event {number} was handled and never sent"


def _handled(ledger: Ledger, number: int, found: list[Beginning]) -> Iterator[str]:
    outcome, settings = ledger.outcome(number), settings_of(ledger.mod(number))
    attempts = settings.get("max_attempts", 2)
    if settings.get("delivery") == "at_most_once" and len(found) > 1:
        yield f"handled {len(found)} times, at most 1 allowed: {found}"
    if outcome == Code.DEAD_LETTERED and len(found) < attempts:
        yield f"given up after {len(found)} of {attempts} attempts: {found}"
    if outcome == "answered" and not found:
        yield "no handler began with it"
    if outcome == Code.OVERLOADED and found:
        yield f"handled all the same: {found}"
    if outcome in ("answered", Code.DEAD_LETTERED) and found and found[-1].at > ledger.settled_at(number):
        yield f"handled again after its end was told at {ledger.settled_at(number)}: {found}"
    if any(later.attempt <= former.attempt for former, later in pairwise(found)):
        yield f"attempts that do not count up: {found}"


def order(ledger: Ledger, diaries: Diaries) -> Iterator[str]:
    """Check that a steady mod handles the events of each source in the order of sending."""
    for mod_id in STEADY:
        newest: dict[int, int] = {}
        for number in (number for diary in diaries.of[mod_id] for number in diary.begun):
            agent = ledger.agent(number)
            if number <= newest.get(agent, -1):
                yield f"{mod_id} began with event {number} of agent a{agent} after {newest[agent]}"
            newest[agent] = number


def checkpoints(diaries: Diaries, outside: Outside) -> Iterator[str]:
    """Check that no process got a state older than the newest acknowledged checkpoint."""
    for mod_id, processes in diaries.of.items():
        acked = sorted(each for diary in processes for each in diary.acked)
        for diary in processes:
            since = max((at for at in outside.unloaded[mod_id] if at < diary.started), default=0.0)
            known = [each for each in acked if each[0] > since]
            yield from (f"{mod_id}, pid {diary.pid}: {problem}" for problem in _restored(diary, known))


def _restored(diary: Diary, acked: list[tuple[float, int]]) -> Iterator[str]:
    if diary.active is None:  # the process ended before it served
        return
    at, count = diary.restored[-1] if diary.restored else (diary.active, 0)
    newest = max((number for when, number in acked if when < at), default=0)
    if count < newest:
        yield f"was given the count {count} at {at}, and a checkpoint of {newest} had been acknowledged"


def causes(acts: list[Act], diaries: Diaries, outside: Outside) -> Iterator[str]:
    """Check that the cause in each crash report fits what the process did or suffered."""
    deeds = _deeds(acts, diaries, outside)
    for end in outside.ends:
        yield from _explained(end, deeds, diaries, outside)


def unreported(acts: list[Act], diaries: Diaries, outside: Outside) -> Iterator[str]:
    """Check that each process that its deed must end has a crash report, or was ended first."""
    told = {(end.mod_id, end.pid) for end in outside.ends} | outside.replaced | _unloaded(diaries, outside)
    for process, names in _deeds(acts, diaries, outside).items():
        must = [name for name in names if TABLE[name].ends]
        if must and process not in told:
            yield f"{process[0]}, pid {process[1]}: no crash report, though it has gone through {must}"


def _unloaded(diaries: Diaries, outside: Outside) -> set[tuple[str, int]]:
    """Return the processes that an unload may have ended before their own deed did."""
    return {
        (mod_id, diary.pid)
        for mod_id, times in outside.unloaded.items()
        for diary in diaries.of[mod_id]
        if any(0 <= at - diary.acted < UNLOADING for at in times)
    }


def _deeds(acts: list[Act], diaries: Diaries, outside: Outside) -> dict[tuple[str, int], list[str]]:
    """Return what each process has done or suffered."""
    deeds: defaultdict[tuple[str, int], list[str]] = defaultdict(
        list, {key: list(v) for key, v in outside.deeds.items()}
    )
    for mod_id, processes in diaries.of.items():
        for diary in processes:
            for number, _ in diary.acts:
                deeds[mod_id, diary.pid].append(acts[number].name)
    return deeds


def _explained(end: End, deeds: dict[tuple[str, int], list[str]], diaries: Diaries, outside: Outside) -> Iterator[str]:
    who = f"{end.mod_id}, incarnation {end.incarnation}, pid {end.pid}"
    if end.cause is Cause.START_FAILURE:
        felled = any(0 <= end.at - at < STARTING for at in outside.felled)
        if not felled and not any(diary.bad_start for diary in diaries.of[end.mod_id]):
            yield f"{who} failed to start without being told to: {end.detail}"
        return
    names = deeds.get((end.mod_id, end.pid or 0), [])
    accepted = {cause for name in names for cause in TABLE[name].causes}
    if end.cause not in accepted:
        text = f"{who} was reported as {end.cause} ({end.detail}); it has gone through {names or 'nothing'}"
        yield f"{text}; its last words:\n{end.words}"


def memory(samples: list[int]) -> Iterator[str]:
    """Check that the memory of the supervisor is bounded."""
    second, last = thirds(samples)
    if last > GROWTH * second + ROOM:
        yield f"the supervisor grew from {second / 1e6:.1f} to {last / 1e6:.1f} MB in the last third of the chaos"


def thirds(samples: list[int]) -> tuple[float, float]:
    """Return the means of the second and of the last third."""
    third = max(1, len(samples) // 3)
    second, last = samples[-2 * third : -third] or samples, samples[-third:]
    return sum(second) / len(second), sum(last) / len(last)


def processes(marked: Marked, diaries: Diaries) -> Iterator[tuple[int, str]]:
    """Name the processes that are left over, of any parent and name."""
    for pid, name in marked.alive().items():
        yield pid, f"process {pid} ({name}) is left over"
    for mod_id in MAD:
        for pid, start_time in (each for diary in diaries.of[mod_id] for each in diary.left):
            if is_alive(pid, start_time):
                yield pid, f"process {pid}, which {mod_id} had left behind, is still there"


def _some(text: str, numbers: list[int], ledger: Ledger) -> Iterator[str]:
    for number in numbers[:SHOWN]:
        yield text.format(number, ledger.mod(number), ledger.outcome(number))
    if len(numbers) > SHOWN:
        yield f"... and {len(numbers) - SHOWN} more"
