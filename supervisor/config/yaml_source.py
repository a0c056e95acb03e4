"""Reads YAML as plain data, with the line of every value and every mistake in the file.

It walks the node graph instead of calling ``yaml.safe_load``, which forgets lines, silently keeps
the later of two equal keys, stops at the first mistake and expands aliases without a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError

from ...ipc.errors import ModvisorError

MAX_BYTES = 4 * 1024 * 1024  # written by hand; the parser takes seconds per megabyte
MAX_DEPTH = 100  # below Python's recursion limit, and below msgpack's nesting limit
MAX_VALUES = 100_000  # with repeated aliases: nine lines of them can be a billion values

BROKEN: Any = object()
"""Stands for a value whose mistake is reported already; no reader reports it again."""

Key = tuple[str | int, ...]
"""The path to a value: ``("mods", 1, "limits", "memory")`` is written ``mods[1].limits.memory``."""

_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_MAP, _SEQ = _TAG + "map", _TAG + "seq"
# A lone '=' or '<<' as a value is text, too.
_TEXT_TAGS = frozenset({_TAG + "str", _TAG + "value", _MERGE})
_NUMBER_TAGS = frozenset({_TAG + "int", _TAG + "float"})
_OTHER_TAGS = frozenset({_TAG + "null", _TAG + "bool", _TAG + "binary"})
_PLAIN_NAME = re.compile(r"[\w@$-]{1,64}")


BAD_CONFIG = "bad_config"


@dataclass(frozen=True)
class Problem:
    """One mistake. ``file`` is empty for plain data, ``key`` for a mistake of the whole file."""

    file: str
    line: int | None
    key: str
    message: str
    code: str = BAD_CONFIG

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(ModvisorError):
    """The configuration has mistakes; ``problems`` lists all of them in the order of the file.

    The code is ``bad_config``. Outside files it is that of the mistakes, if they agree.
    """

    code = BAD_CONFIG

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        lines = [str(problem) for problem in problems]
        codes = {BAD_CONFIG if problem.file else problem.code for problem in problems}
        super().__init__("\n".join(lines), code=codes.pop() if len(codes) == 1 else BAD_CONFIG, problems=lines)


@dataclass(slots=True)
class Source:
    """Where a configuration comes from: the lines of a file, and the problems found so far.

    Attributes:
        file: the name that problems are reported under; empty for plain data.
        lines: the line of each key, counted from 1.
        texts: how each number was written, for readers of text: ``1.10`` is not ``1.1``.
    """

    file: str = ""
    lines: dict[Key, int] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, key: Key, message: str, line: int | None = None, code: str = BAD_CONFIG) -> Any:
        """Add a mistake; returns `BROKEN` in place of the value."""
        self.problems.append(Problem(self.file, line or self.line(key), format_key(key), message, code))
        return BROKEN

    def line(self, key: Key) -> int | None:
        """Return the line of ``key``, or of the section that lacks it."""
        for end in range(len(key), -1, -1):
            if (line := self.lines.get(key[:end])) is not None:
                return line
        return None

    def check(self) -> None:
        """Raise `ConfigError` if anything was reported."""
        if self.problems:
            found = dict.fromkeys(self.problems)  # aliases and merges repeat a mistake
            raise ConfigError(sorted(found, key=lambda problem: problem.line or 0))


def format_key(key: Key) -> str:
    """Write a key as ``mods[1].limits.memory``; quotes parts that are not plain names."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _PLAIN_NAME.fullmatch(part) else shorten(repr(part)))
    return text


def shorten(text: str) -> str:
    """Cut a text to 60 characters."""
    return text if len(text) <= 60 else text[:57] + "..."


def load_yaml(path: str, source: Source) -> Any:
    """Return the data of a YAML file, None if it is empty, `BROKEN` if it cannot be read at all.

    Reports mistakes to ``source``. Makes plain data only: None, bool, int, float, str, bytes, list
    and dict.
    """
    text = read_text(path, source)
    return BROKEN if text is BROKEN else parse_yaml(text, source)


def read_text(path: str, source: Source) -> Any:
    """Return the text of a file; reports it to ``source`` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        return source.report((), f"cannot read the file: {getattr(error, 'strerror', None) or error}")
    if len(raw) > MAX_BYTES:
        return source.report(
            (), f"the file is larger than {MAX_BYTES} bytes; move data to other files and name those here"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return source.report((), f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", line)


def parse_yaml(text: str, source: Source) -> Any:
    """Do the same as `load_yaml` for text that was read already."""
    try:
        root = _compose(text)
        return None if root is None else _NodeWalk(source).document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return source.report((), _syntax_message(error), mark.line + 1 if mark else None)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return source.report((), f"not valid YAML: character U+{error.character:04X} is not allowed", line)


def _compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError):
        # PyYAML converts escapes such as "\UFFFFFFFF" and version numbers unchecked.
        raise ComposerError(None, None, "a number is out of range here", loader.get_mark()) from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Caps the depth while it reads: PyYAML's composer recurses, and Python's own limit is near."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooMuch(None, None, f"nested deeper than {MAX_DEPTH} levels", self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _TooMuch(yaml.MarkedYAMLError):
    """The file is too deep or too large: reading on would take unlimited memory."""


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "syntax error"
    if isinstance(error, _TooMuch):
        return problem
    if "but found another document" in problem:
        return "a second document starts here; keep one document in a file"
    if "'\\t'" in problem:
        problem += "; indent with spaces, not tabs"
    return f"not valid YAML: {problem}" + (f" ({error.context})" if error.context else "")


class _NodeWalk:
    """One walk over a node graph: builds the data, records lines, reports mistakes."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._left = MAX_VALUES
        self._open: set[int] = set()  # ids of nodes under construction: one may contain itself

    def document(self, root: yaml.Node) -> Any:
        self._source.lines[()] = _line(root)
        return self._value(root, ())

    def _value(self, node: yaml.Node, key: Key) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _TooMuch(None, None, f"more than {MAX_VALUES} values, counting repeated aliases", node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBER_TAGS:
                # A merged value comes after the value that overrides it.
                self._source.texts.setdefault(key, node.value)
            return self._scalar(node, key)
        if id(node) in self._open:
            return self._report(node, key, "the alias contains itself; write the value out")
        if len(key) > MAX_DEPTH:
            return self._report(node, key, f"nested deeper than {MAX_DEPTH} levels")
        self._open.add(id(node))
        try:
            return self._collection(node, key)
        finally:
            self._open.discard(id(node))

    def _collection(self, node: yaml.Node, key: Key) -> Any:
        if isinstance(node, yaml.SequenceNode) and node.tag == _SEQ:
            return [self._item(item, (*key, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, key)
        return self._report(node, key, _unknown_tag(node))

    def _item(self, node: yaml.Node, key: Key) -> Any:
        self._source.lines.setdefault(key, _line(node))
        return self._value(node, key)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[Any, Any]:
        data: dict[Any, Any] = {}
        merged = []
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                merged.append(value_node)
            else:
                self._pair(key_node, value_node, key, data)
        for value_node in merged:
            self._merge(value_node, key, data)
        return data

    def _pair(self, key_node: yaml.Node, value_node: yaml.Node, key: Key, data: dict[Any, Any]) -> None:
        if not isinstance(key_node, yaml.ScalarNode):
            self._report(key_node, key, "a list or mapping cannot be a key; keys are text")
            return
        name = self._scalar(key_node, key)
        if name is BROKEN:
            return
        here = (*key, key_node.value)
        if not isinstance(name, str):
            kind = key_node.tag.removeprefix(_TAG)
            self._report(key_node, here, f"YAML reads this key as {kind}, but keys are text; put it in quotes")
            return
        if name in data:  # keep the first value, so that its own mistakes are found
            self._report(key_node, here, f"this key is already given in line {self._source.lines[here]}; remove one")
            return
        self._source.lines.setdefault(here, _line(key_node))
        data[name] = self._value(value_node, here)

    def _merge(self, node: yaml.Node, key: Key, data: dict[Any, Any]) -> None:
        """Merge ``<<: *defaults``: add missing keys. In a list, earlier mappings win."""
        for part in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(part, yaml.MappingNode):
                self._report(part, key, "'<<' merges mappings only; write '<<: *name' of a mapping marked '&name'")
                continue
            found = self._value(part, key)
            if found is not BROKEN:
                data.update((name, value) for name, value in found.items() if name not in data)

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> Any:
        if node.tag in _TEXT_TAGS:
            return node.value
        if node.tag == _TAG + "timestamp":
            return self._report(
                node, key, f"YAML reads {shorten(node.value)} as a date; put it in quotes to make it text"
            )
        if node.tag in _NUMBER_TAGS and ":" in node.value:
            return node.value  # YAML 1.1 reads 1:30 as 90; nobody means that
        if node.tag not in _NUMBER_TAGS | _OTHER_TAGS:
            return self._report(node, key, _unknown_tag(node))
        try:
            return SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError):  # the tag does not fit, as in '!!int x'
            kind = node.tag.removeprefix(_TAG)
            return self._report(node, key, f"YAML cannot read {shorten(repr(node.value))} as {kind}; put it in quotes")

    def _report(self, node: yaml.Node, key: Key, message: str) -> Any:
        return self._source.report(key, message, _line(node))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _unknown_tag(node: yaml.Node) -> str:
    tag = node.tag.replace(_TAG, "!!")
    return f"the tag {shorten(tag)} is not allowed; write plain values, lists and mappings"
