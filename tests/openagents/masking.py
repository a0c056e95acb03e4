"""What differs between two runs of the same events, and must: random ids, points in time, folders."""

from __future__ import annotations

import json
import re
import time
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{32}\b")
_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)?")
_STAMP = re.compile(r"msg_\d{10}_")
_NAME = re.compile(r"Project-[0-9a-f]{8}\b")
_DAY = 86_400
_MASKED = {"uptime_seconds": "<time>", "secret": None}  # in OpenAgents the secrets of senders get into some answers


class Mask:
    """Replaces what is random. The same id gets the same number in the whole run.

    Args:
        folder: where this run keeps its files; a path in it loses its beginning.
    """

    def __init__(self, folder: str) -> None:
        self._paths = re.compile(re.escape(folder) + r"[^\s'\"]*/")
        self._numbers: dict[str, int] = {}

    def __call__(self, value: Any, unordered: tuple[str, ...] = ()) -> Any:
        return self._numbered(self._sorted(self._timeless(value), unordered))

    def _timeless(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._field(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._timeless(item) for item in value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            now = time.time()
            return "<time>" if min(abs(value - now), abs(value / 1000 - now)) < _DAY else value
        if isinstance(value, str):
            for pattern, mask in ((_ISO, "<time>"), (_STAMP, "msg_<time>_"), (_NAME, "Project-<id>")):
                value = pattern.sub(mask, value)
            return self._paths.sub("<folder>/", value)
        return value

    def _field(self, key: str, value: Any) -> Any:
        if key == "destination_id" and value == "":  # what their client sends for none
            return None
        return _MASKED[key] if key in _MASKED else self._timeless(value)

    def _sorted(self, value: Any, unordered: tuple[str, ...], key: str | None = None) -> Any:
        if isinstance(value, dict):
            return {name: self._sorted(item, unordered, name) for name, item in value.items()}
        if not isinstance(value, list):
            return value
        items = [self._sorted(item, unordered) for item in value]
        return sorted(items, key=lambda item: _UUID.sub("", json.dumps(item))) if key in unordered else items

    def _numbered(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._numbered(key): self._numbered(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._numbered(item) for item in value]
        return _UUID.sub(self._number, value) if isinstance(value, str) else value

    def _number(self, found: re.Match[str]) -> str:
        return f"<id {self._numbers.setdefault(found.group(), len(self._numbers) + 1)}>"
