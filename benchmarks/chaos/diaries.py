"""Read what the mods say: a file for each process, a line for each deed, in monotonic time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of a handler with an event. `at`: monotonic seconds."""

    at: float
    attempt: int
    pid: int


@dataclass(slots=True)
class Diary:
    """The diary of one process of a mod.

    Attributes:
        begun: numbers of the events that it began to handle, in order.
        acts: number and name of each act of the schedule; `acted`: monotonic seconds of the newest.
        restored: monotonic seconds and count of each state that it got.
        acked: monotonic seconds and count of each checkpoint that was acknowledged.
        bad_start: how it was told to fail to start, if it was.
        left: pid and start time (clock ticks) of each process that it left behind.
    """

    mod_id: str
    pid: int
    started: float = 0.0
    active: float | None = None
    begun: list[int] = field(default_factory=list)
    acts: list[tuple[int, str]] = field(default_factory=list)
    acted: float = 0.0
    restored: list[tuple[float, int]] = field(default_factory=list)
    acked: list[tuple[float, int]] = field(default_factory=list)
    bad_start: str | None = None
    left: list[tuple[int, int]] = field(default_factory=list)


class Diaries:
    """All diaries of a run; the processes of a mod in the order of their starts."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.of: dict[str, list[Diary]] = {}
        self.beginnings: defaultdict[int, list[Beginning]] = defaultdict(list)
        for mod_id, folder in folders.items():
            diaries = [self._read(mod_id, file) for file in (folder / "diaries").iterdir()]
            self.of[mod_id] = sorted(diaries, key=lambda diary: diary.started)
        for beginnings in self.beginnings.values():
            beginnings.sort(key=lambda beginning: beginning.at)

    def _read(self, mod_id: str, file: Path) -> Diary:
        diary = Diary(mod_id, int(file.name.partition("-")[0]))
        for line in file.read_text().splitlines():
            stamp, word, *rest = line.split()
            self._take(diary, int(stamp) / 1e9, word, rest)
        return diary

    def _take(self, diary: Diary, at: float, word: str, rest: list[str]) -> None:
        match word, rest:
            case "started", _:
                diary.started = at
            case "active", _:
                diary.active = at
            case "begin", [number, attempt]:
                diary.begun.append(int(number))
                self.beginnings[int(number)].append(Beginning(at, int(attempt), diary.pid))
            case "act", [number, name]:
                diary.acts.append((int(number), name))
                diary.acted = at
            case "restored", [count]:
                diary.restored.append((at, int(count)))
            case "acked", [count]:
                diary.acked.append((at, int(count)))
            case "bad_start", [how]:
                diary.bad_start = how
            case "left", [pid, start_time]:
                diary.left.append((int(pid), int(start_time)))
            case _:
                raise ValueError(f"{diary.mod_id} wrote {word} {rest} into its diary")
