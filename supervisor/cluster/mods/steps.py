"""The steps of a command on a mod with copies, and what comes of them. Pure.

The steps stand in the mod's record, where every node sees them, and nobody leads: whoever has the copy
whose turn it is does its step and writes it down. When a node dies, the next holders of its copies go on.

* load: the mod is wanted from the beginning, so its copies are started wherever they belong, all at
  once. If one fails to start, all are ended again.
* unload, revert: all copies at once.
* restart: one copy after the other, until one fails.
* reload: one copy after the other, each tentatively. When all have followed, each settles; if one fails,
  those before it go back. A tentative reload is lost with its node: the next holder begins with
  the version before, and reloads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ....ipc.event import EventResponse

LOAD, UNLOAD, RELOAD, RESTART, SWAP, REVERT = "load", "unload", "reload", "restart", "swap", "revert"

DO, SETTLE, UNDO = "do", "settle", "undo"


class Turn(NamedTuple):
    """A step that is to be done now: ``do``, ``settle`` or ``undo``."""

    unit: str
    step: str


@dataclass(frozen=True, slots=True)
class Step:
    """The newest step that was done with a copy.

    Attributes:
        token: the fencing token under which it was done.
        answer: what it came to, see `EventResponse.to_dict`; of a settled or undone copy, what ``do`` came to.
    """

    step: str
    token: int
    node: str
    answer: dict[str, Any]

    @property
    def is_ok(self) -> bool:
        return bool(self.answer["success"])

    def to_plain(self) -> dict[str, Any]:
        return {"step": self.step, "token": self.token, "node": self.node, "answer": self.answer}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Step:
        return cls(data["step"], data["token"], data["node"], data["answer"])


Steps = Mapping[str, Step]
TokenOf = Callable[[str], int | None]
"""The token of the claim of a copy; None: nobody has it."""


def turns(do: str, units: list[str], steps: Steps, token_of: TokenOf) -> list[Turn]:
    """Return the steps that are to be done now, by whoever has each copy. Empty: the command is over."""
    if do in (UNLOAD, REVERT):
        return [Turn(unit, DO) for unit in units if unit not in steps]
    failed = any(not step.is_ok for step in steps.values())
    if do == LOAD:
        if failed:
            return [Turn(unit, UNDO) for unit in units if unit not in steps or steps[unit].step != UNDO]
        return [Turn(unit, DO) for unit in units if unit not in steps]
    if do == RESTART:
        return [] if failed else [Turn(unit, DO) for unit in units if unit not in steps][:1]
    if failed:
        return [Turn(unit, UNDO) for unit, step in steps.items() if step.is_ok and step.step == DO]
    missing = [unit for unit in units if unit not in steps or _has_moved(steps[unit], token_of(unit))]
    if missing:
        return [Turn(missing[0], DO)]
    return [Turn(unit, SETTLE) for unit in units if steps[unit].step == DO]


def _has_moved(step: Step, token: int | None) -> bool:
    """Whether a copy that was reloaded tentatively has another holder by now."""
    return step.step == DO and token is not None and token > step.token


def outcome(do: str, mod_id: str, mod_path: str, units: list[str], steps: Steps) -> EventResponse:
    """Return what a command came to that is over."""
    failed = [unit for unit in units if unit in steps and not steps[unit].is_ok]
    if failed:
        return _failure(do, mod_id, failed[0], steps)
    answers = [steps[unit].answer.get("data") or {} for unit in units if unit in steps]
    data = {**_together(answers), "mod_id": mod_id, "mod_path": mod_path}
    data["copies"] = {unit: steps[unit].node for unit in units if unit in steps}
    pause = f" ({data['pause_ms']:.1f} ms pause)" if "pause_ms" in data else ""
    return EventResponse(True, f"mod {mod_id} {_DONE[do]}: {len(units)} copies{pause}", data)


_DONE = {LOAD: "loaded", UNLOAD: "unloaded", RELOAD: "reloaded", RESTART: "restarted", REVERT: "reverted"}


def codes_of(steps: Steps) -> tuple[str | None, str | None]:
    """Return the digests of what all copies ran before a reload, and since; None: they differ, or are not known."""
    told = [(step.answer.get("data") or {}).get("codes") or (None, None) for step in steps.values()]
    before, since = ({each[at] for each in told} for at in (0, 1))
    return before.pop() if len(before) == 1 else None, since.pop() if len(since) == 1 else None


def _failure(do: str, mod_id: str, unit: str, steps: Steps) -> EventResponse:
    answer = steps[unit].answer
    text = f"mod {mod_id} was not {_DONE[do]}: {answer['message']}"
    if settled := [each for each, step in steps.items() if step.step == SETTLE]:
        text += f"; these copies run the new version all the same: {', '.join(settled)}; reload the mod once more"
    data = {**(answer.get("data") or {}), "mod_id": mod_id, "copy": unit, "node": steps[unit].node}
    return EventResponse(False, text, data)


def _together(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the data of one response: the longest pause, sums of what is counted, the rest as the first has it."""
    data = {**answers[0]} if answers else {}
    if "pause_ms" in data:
        data["pause_ms"] = max(each["pause_ms"] for each in answers)
        data["workers"] = len(answers)
    for name in ("queued", "state_bytes"):
        if name in data:
            data[name] = sum(each[name] for each in answers)
    data.pop("codes", None)
    return data
