"""The files of the page, as a browser gets them: read once, compressed once, asked again by their `ETag`."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.responses import Response

STATIC = Path(__file__).parent / "static"
PAGE = "index.html"

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
_COMPRESSED = (".html", ".js", ".css", ".svg", ".json", ".webmanifest", ".txt")

_NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-][A-Za-z0-9_.-]*")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
"""The headers of each answer of the page: nothing comes from elsewhere, and no other page may frame it."""


@dataclass(frozen=True)
class File:
    """A file of the page."""

    content: bytes
    kind: str
    is_text: bool

    @cached_property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @cached_property
    def compressed(self) -> bytes:
        return gzip.compress(self.content, 9, mtime=0)

    def answer(self, headers: Mapping[str, str]) -> Response:
        """Return the file as a request with these headers wants it."""
        told = {**HEADERS, "etag": self.tag, **({"vary": "accept-encoding"} if self.is_text else {})}
        if self.tag in (each.strip().removeprefix("W/") for each in headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers=told)
        if self.is_text and _takes_gzip(headers.get("accept-encoding", "")):
            return Response(self.compressed, headers={**told, "content-encoding": "gzip"}, media_type=self.kind)
        return Response(self.content, headers=told, media_type=self.kind)


class Files:
    """The files below a folder, by their paths. Each is read when it is first asked for, and kept."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._folder = folder
        self._read: dict[str, tuple[int, File]] = {}

    def get(self, name: str) -> File | None:
        """Return a file; None if no file has this name, or the page has no files of this kind."""
        kind = KINDS.get(Path(name).suffix)
        if kind is None or _NAME.fullmatch(name) is None:
            return None
        path = self._folder / name
        try:
            changed = path.stat().st_mtime_ns  # an edit is seen without a restart of the network
            if name in self._read and self._read[name][0] == changed:
                return self._read[name][1]
            file = File(path.read_bytes(), kind, path.suffix in _COMPRESSED)
        except OSError:
            return None
        self._read[name] = changed, file
        return file


def _takes_gzip(accepted: str) -> bool:
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
