"""Rules of projects: which status may follow which, ids, and what an artifact may hold. Pure."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from ... import Code, Refused

LEGAL_MOVES: dict[str, tuple[str, ...]] = {
    "planned": ("active", "archived"),
    "active": ("paused", "done", "archived"),
    "paused": ("active", "done", "archived"),
    "done": ("active", "archived"),
    "archived": ("active",),
}
"""Which status may follow each status.

An archived project is read-only until it is active again.
"""

STATUSES = tuple(LEGAL_MOVES)
GOAL_STATUSES = ("open", "done", "dropped")
ROLES = ("owner", "member")

MAX_PROJECT_ID = 64
_PROJECT_ID = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_move(project_id: str, now: str, then: str) -> None:
    """Refuse a move that is not in `LEGAL_MOVES`; the refusal names the legal moves."""
    if then not in LEGAL_MOVES[now]:
        legal = ", ".join(LEGAL_MOVES[now])
        already = f"is already {now}" if now == then else f"is {now} and cannot become {then}"
        raise Refused(
            f"status: project {project_id!r} {already}; from {now} it may become {legal}",
            code=Code.CONFLICT, field="status", status=now, legal=list(LEGAL_MOVES[now]),
        )  # fmt: skip


def check_project_id(value: str) -> str:
    """Return ``value`` if it can be a project's id; refuse it otherwise."""
    if len(value) > MAX_PROJECT_ID or not _PROJECT_ID.fullmatch(value):
        raise Refused(
            f"project_id: expected lower-case letters, digits, '-', '_', '.', at most {MAX_PROJECT_ID}, got {value[:80]!r}",
            field="project_id",
        )
    return value


def id_from_name(name: str) -> str:
    """Make an id from a name, such as ``rocket-ol-2`` from ``Rocket Öl 2``, or ``project``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[: MAX_PROJECT_ID - 8].strip("-") or "project"


def encode_content(content: Any, most: int) -> tuple[str, bytes]:
    """Return an artifact's content as stored.

    Returns ``(format, bytes)``, where the format is ``text``, ``bytes`` or ``json``. Refuses more
    than ``most`` bytes, and data that JSON would change.
    """
    match content:
        case str():
            kind, data = "text", _utf8(content)
        case bytes():
            kind, data = "bytes", content
        case _:
            _check_json(content, "content")
            kind, data = "json", json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > most:
        raise Refused(
            f"content: expected at most {most} bytes, got {len(data)}",
            code=Code.TOO_LARGE,
            field="content",
            size=len(data),
        )
    return kind, data


def decode_content(kind: str, data: bytes) -> Any:
    """Return the content that `encode_content` was given."""
    match kind:
        case "text":
            return data.decode()
        case "json":
            return json.loads(data)
        case _:
            return data


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Refused("content: expected Unicode text, got text with a lone surrogate", field="content") from None


def _check_json(value: Any, place: str) -> None:
    match value:
        case str():
            _utf8(value)
        case None | bool() | int():
            pass
        case float() if value - value == 0:  # neither infinite nor NaN
            pass
        case list():
            for index, item in enumerate(value):
                _check_json(item, f"{place}[{index}]")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise Refused(f"{place}: expected keys of text, got {type(key).__name__} {key!r}", field="content")
                _check_json(item, f"{place}[{key[:40]!r}]")
        case _:
            raise Refused(
                f"{place}: expected text, bytes or JSON data, got {type(value).__name__}"
                + (
                    " inside JSON data; store the bytes as an artifact of their own" if isinstance(value, bytes) else ""
                ),
                field="content",
            )
