"""Composes YAML within bounds, so that a small file cannot take much time or memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import ComposerError

MAX_DEPTH = 100  # below Python's recursion limit, and below msgpack's nesting limit
MAX_ALIASES = 10_000


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a file may be. The parser takes seconds per megabyte, and 50 µs per value.

    Attributes:
        values: how many values it may have, each alias counted as what it stands for: nine lines of
            aliases can be a billion values. Their texts together may be four times ``size``.
    """

    size: int
    values: int


NETWORK_FILE = Bounds(4 * 1024 * 1024, 100_000)  # may be written by a program
MOD_FILE = Bounds(256 * 1024, 5_000)  # belongs to a mod, so it is read as a stranger's


def compose(text: str, bounds: Bounds) -> yaml.Node | None:
    """Return the root node of a YAML text; None if it is empty. Raises `yaml.YAMLError`."""
    loader = _Loader(text, bounds)
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError):
        # PyYAML converts escapes such as "\UFFFFFFFF" and version numbers unchecked.
        raise ComposerError(None, None, "a number is out of range here", loader.get_mark()) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Keeps the bounds while it reads, so that a small file cannot take much time or memory.

    PyYAML's composer recurses, and Python's own limit is near.
    """

    def __init__(self, text: str, bounds: Bounds) -> None:
        super().__init__(text)
        self._bounds = bounds
        self._depth = self._aliases = self._values = self._letters = 0
        self._anchored: dict[str, tuple[int, int]] = {}  # values and letters below each anchor

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            self._count(*self._anchored.get(event.anchor, (1, 0)), event)
            return super().compose_node(parent, index)
        before = self._values, self._letters
        self._count(1, len(event.value) if isinstance(event, yaml.ScalarEvent) else 0, event)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TooMuch(None, None, f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._anchored[event.anchor] = self._values - before[0], self._letters - before[1]
        return node

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:
        """Refuse deep brackets where they are scanned: the scanner takes quadratic time for them."""
        if self.flow_level >= MAX_DEPTH:
            raise TooMuch(None, None, f"nested deeper than {MAX_DEPTH} levels", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def _count(self, values: int, letters: int, event: yaml.Event) -> None:
        self._values += values
        self._letters += letters
        most = self._bounds
        for count, limit, what in (
            (self._aliases, MAX_ALIASES, "aliases"),
            (self._values, most.values, "values, counting repeated aliases"),
            (self._letters, 4 * most.size, "letters, counting repeated aliases"),
        ):
            if count > limit:
                raise TooMuch(None, None, f"more than {limit} {what}", event.start_mark)


class TooMuch(yaml.MarkedYAMLError):
    """The file is too deep or too large: reading on would take unlimited memory."""
