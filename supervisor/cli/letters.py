"""Dead letters of a running network: listed page by page, replayed one by one."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from .client import Client
from .exits import CliError, ExitCode

PAGE = 500  # letters of one request; ten thousand are listed in little memory and little time


def heads(
    client: Client, mod: str | None = None, *, before: int | None = None, page: int = PAGE
) -> Iterator[dict[str, Any]]:
    """Every letter (of a mod), without payload and report, the newest first."""
    while True:
        answer = client.get("/dead-letters", mod=mod, before=before, limit=page)
        yield from answer["dead_letters"]
        before = answer["next"]
        if before is None:
            return


class Replay:
    """Gives events to their mods again, one after the other: one that kills takes no other replayed one with it.

    Args:
        keep: whether `summary` is to tell what became of each letter.

    Attributes:
        done: how many were answered, or passed on and delivered; ``failed``: how many were not, by error code.
    """

    def __init__(self, client: Client, *, keep: bool) -> None:
        self._client = client
        self._outcomes: list[dict[str, Any]] | None = [] if keep else None
        self.done = 0
        self.failed: Counter[str] = Counter()

    def all(self, mod: str | None) -> Iterator[dict[str, Any]]:
        """Those there are now, in the order in which they were given up; what becomes one meanwhile is not tried again."""
        numbers = array("q", (head["letter_id"] for head in heads(self._client, mod)))
        return self.these(reversed(numbers))

    def these(self, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Replay each and yield its outcome: letter_id, event_name, success, error, message, dead_letter (its new number).

        Raises:
            CliError: the network has gone, or does not let us.
        """
        for number in numbers:
            outcome = _outcome(number, self._answer(number))
            if outcome["success"]:
                self.done += 1
            else:
                self.failed[str(outcome["error"] or "failed")] += 1
            if self._outcomes is not None:
                self._outcomes.append(outcome)
            yield outcome

    def _answer(self, number: int) -> dict[str, Any]:
        try:
            return self._client.post(f"/dead-letters/{number}/replay")
        except CliError as error:
            if error.code is not ExitCode.FAILED or error.error is None:
                raise
            return error.document()  # the network's own answer, about this letter

    def summary(self) -> dict[str, Any]:
        return {
            "success": not self.failed,
            "letters": self.done + self.failed.total(),
            "done": self.done,
            "failed": dict(self.failed.most_common()),
            "outcomes": self._outcomes or [],
        }

    def sentence(self) -> str:
        if not self.done and not self.failed:
            return "no dead letters to replay"
        failures = ", ".join(f"{count} {code}" for code, count in self.failed.most_common())
        return f"{self.done} of {self.done + self.failed.total()} done" + (f"; failed: {failures}" if failures else "")


def _outcome(number: int, answer: dict[str, Any]) -> dict[str, Any]:
    data = answer.get("data")
    named: dict[str, Any] = data if isinstance(data, dict) and not answer["success"] else {}
    return {
        "letter_id": number,
        "event_name": answer.get("event_name"),
        "success": answer["success"],
        "error": named.get("error"),
        "message": answer.get("message") or "",
        "dead_letter": named.get("dead_letter"),
    }
