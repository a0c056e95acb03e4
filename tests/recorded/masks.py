"""What differs from run to run, or is prose, hidden behind words such as `<time>`; all else stays as it is."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping
from typing import Any

import msgpack

PROSE = {"message", "error_message", "reason", "traceback", "last_words", "last_error", "log", "line", "description"}
NUMBERS = {"pid", "network_pid", "port", "timestamp", "at", "last_seen", "uptime", "max_rss", "bytes"}
TIMELY = re.compile(r".*(_at|_ms|_seconds)$")
WORDS = {"secret", "secret_hash", "fingerprint", "python", "modvisor", "boot"}
WHOLE = {"resources", "sandbox", "cell", "compiled", "code"}
"""Hidden whatever they are, but for text: the code of an error is no compiled code."""
ID = re.compile(r"\b[0-9a-f]{32}\b")
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
SINCE = re.compile(r"\b(agent:[\w.@-]+) [0-9.]+")  # the owner of an agent's id, and since when
SHORT = 64  # bytes that are shown


class Masks:
    """Hide in plain data (what msgpack or JSON carries).

    Args:
        places: text that stands in paths, to the word that takes its place.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        longest_first = sorted(places.items(), key=lambda place: -len(place[0]))
        self._places = [*longest_first, (sys.executable, "<python>")]

    def text(self, text: str) -> str:
        for place, word in self._places:
            text = text.replace(place, word)
        return SINCE.sub(r"\1 <number>", DIGEST.sub("<digest>", ID.sub("<id>", text)))

    def value(self, value: Any, key: str = "", *, numbers: bool = True) -> Any:
        """Return `value` as JSON would have it, with what stands under certain keys hidden. `numbers`: show them."""
        if key in WHOLE and not isinstance(value, str):
            return f"<{key}>"
        if value is None or isinstance(value, bool):
            return value
        if key == "supervisor" and isinstance(value, Mapping):  # what it uses; some of it is known after a while only
            return dict.fromkeys(value, "<number>")
        if isinstance(value, Mapping):
            shown = {self.text(str(k)): self.value(v, str(k), numbers=numbers) for k, v in value.items()}
            return (
                {**shown, "size": "<number>"} if {"letter_id", "report"} & value.keys() and "size" in value else shown
            )
        if isinstance(value, (list, tuple)) and not isinstance(value, msgpack.ExtType):
            return self._list(value, key, numbers)
        return self._leaf(value, key, numbers)

    def _list(self, value: list[Any] | tuple[Any, ...], key: str, numbers: bool) -> list[Any]:
        if key in PROSE and value:
            return ["<text>"]
        shown = [self.value(each, key, numbers=numbers) for each in value]
        if key == "sys_path":  # the folders of the mods, and those of whatever Python this is
            return [*(path for path in shown if path.startswith("<base>")), "<path>"]
        return shown

    def _leaf(self, value: Any, key: str, numbers: bool) -> Any:
        if isinstance(value, str) and key in PROSE:
            return "<text>"
        if key in WORDS and isinstance(value, (str, bytes)):
            return f"<{key}>"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, (int, float)):
            if key in NUMBERS or TIMELY.match(key) or not numbers:
                return "<number>"
            return value
        if isinstance(value, bytes):
            return {"$bytes": value.hex() if len(value) <= SHORT else len(value)}
        if isinstance(value, msgpack.ExtType):
            return {"$ext": value.code, "data": value.data.hex()}
        assert isinstance(value, (msgpack.Timestamp, datetime.datetime)), value
        return "<time>"
