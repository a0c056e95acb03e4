"""Reads YAML as plain data, with the line of every value and every mistake in the file.

It walks the node graph instead of calling ``yaml.safe_load``, which forgets lines, silently keeps
the later of two equal keys, stops at the first mistake and expands aliases without a limit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.reader import ReaderError
from yaml.resolver import Resolver

from ....ipc.errors import ModvisorError
from ...causes import cause
from .bounds import MAX_DEPTH, NETWORK_FILE, Bounds, TooMuch, compose
from .doubts import Doubt, doubt_of, has_leading_zero
from .variables import BadVariable, Substituted, replace_variables

MAX_PROBLEMS = 1_000  # nobody reads more, and each costs a look for the word that was meant

BROKEN: Any = object()
"""Stands for a value whose mistake is reported already; no reader reports it again."""

Key = tuple[str | int, ...]
"""The path to a value: ``("mods", 1, "limits", "memory")`` is written ``mods[1].limits.memory``."""

_TAG = "tag:yaml.org,2002:"
_PLACEMENT, _ON = "placement", "on"  # YAML 1.1 reads this key as true, YAML 1.2 as the text that it is
_MERGE = _TAG + "merge"
_MAP, _SEQ = _TAG + "map", _TAG + "seq"
# A lone '=' or '<<' as a value is text, too.
_TEXT_TAGS = frozenset({_TAG + "str", _TAG + "value", _MERGE})
_NUMBER_TAGS = frozenset({_TAG + "int", _TAG + "float"})
_PLAIN_TAGS = frozenset({_TAG + "null", _TAG + "bool"})
_OTHER_TAGS = _PLAIN_TAGS | {_TAG + "binary"}
_RESOLVER = Resolver()
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

    def to_dict(self) -> dict[str, Any]:
        """Return the mistake as both APIs and the command show it."""
        return {"file": self.file, "line": self.line, "key": self.key, "message": self.message}


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
        doubts: what YAML may read otherwise than the writer meant it, for readers of plain data.
        variables: the values that came from variables, each with how it was written.
        warnings: what is no mistake, and may not be what was meant.
    """

    file: str = ""
    lines: dict[Key, int] = field(default_factory=dict)
    texts: dict[Key, str] = field(default_factory=dict)
    doubts: dict[Key, Doubt] = field(default_factory=dict)
    variables: dict[Key, Substituted] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    @property
    def is_translated(self) -> bool:
        """Whether the data was written in the words of another framework."""
        return False

    def report(self, key: Key, message: str, line: int | None = None, code: str = BAD_CONFIG) -> Any:
        """Add a mistake; returns `BROKEN` in place of the value.

        Raises:
            ConfigError: there are more than `MAX_PROBLEMS` mistakes.
        """
        if (substituted := self.variables.get(key)) is not None:
            message = substituted.hidden_in(message)
        if len(self.problems) >= MAX_PROBLEMS:
            text = f"more than {MAX_PROBLEMS} mistakes; mend these first"
            raise ConfigError([*self.problems, Problem(self.file, None, "", text)])
        self.problems.append(self.problem(key, message, line, code))
        return BROKEN

    def warn(self, key: Key, message: str) -> None:
        """Add a warning."""
        self.warnings.append(self.problem(key, message, None))

    def problem(self, key: Key, message: str, line: int | None, code: str = BAD_CONFIG) -> Problem:
        """Return a problem with the name and the line of its key."""
        return Problem(self.file, line or self.line(key), format_key(key), message, code)

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


def load_yaml(path: str, source: Source, environ: Mapping[str, str] | None = os.environ) -> Any:
    """Return the data of a network file, None if it is empty, `BROKEN` if it cannot be read at all.

    Reports mistakes to ``source``. Makes plain data only: None, bool, int, float, str, bytes, list
    and dict. Replaces ``${VAR}`` in its values by variables of ``environ``; None: leaves them as
    they are.
    """
    text = read_text(path, source, NETWORK_FILE)
    return BROKEN if text is BROKEN else parse_yaml(text, source, environ=environ)


def read_text(path: str, source: Source, bounds: Bounds) -> Any:
    """Return the text of a file; reports it to ``source`` if it cannot be read."""
    try:
        with open(path, "rb") as file:
            raw = file.read(bounds.size + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        return source.report((), f"cannot read the file: {cause(error, path)}")
    if len(raw) > bounds.size:
        return source.report(
            (), f"the file is larger than {bounds.size} bytes; move data to other files and name those here"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return source.report((), f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8", line)


def parse_yaml(
    text: str, source: Source, *, bounds: Bounds = NETWORK_FILE, environ: Mapping[str, str] | None = None
) -> Any:
    """Do the same as `load_yaml` for text that was read already.

    Args:
        environ: the variables for ``${VAR}``. None: a ``$`` has no meaning.
    """
    try:
        root = compose(text, bounds)
        return None if root is None else _NodeWalk(source, bounds, environ).document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return source.report((), _syntax_message(error), mark.line + 1 if mark else None)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return source.report((), f"not valid YAML: character U+{error.character:04X} is not allowed", line)


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "syntax error"
    if isinstance(error, TooMuch):
        return problem
    if "but found another document" in problem:
        return "a second document starts here; keep one document in a file"
    if "'\\t'" in problem:
        problem += "; indent with spaces, not tabs"
    elif "but got '{'" in problem:
        problem += "; between braces put ${VAR} in quotes"
    elif "that cannot start any token" in problem or (error.context or "").startswith(_SIGNS):
        problem += "; put a value that begins with this sign in quotes"
    return f"not valid YAML: {problem}" + (f" ({error.context})" if error.context else "")


_SIGNS = ("while scanning an alias", "while scanning an anchor", "while scanning a directive", "while scanning a tag")


class _NodeWalk:
    """One walk over a node graph: builds the data, records lines, reports mistakes."""

    def __init__(self, source: Source, bounds: Bounds, environ: Mapping[str, str] | None) -> None:
        self._source = source
        self._bounds = bounds
        self._left = bounds.values
        self._environ = environ
        self._open: set[int] = set()  # ids of nodes under construction: one may contain itself

    def document(self, root: yaml.Node) -> Any:
        self._source.lines[()] = _line(root)
        return self._value(root, ())

    def _value(self, node: yaml.Node, key: Key) -> Any:
        self._left -= 1
        if self._left < 0:
            text = f"more than {self._bounds.values} values, counting repeated aliases"
            raise TooMuch(None, None, text, node.start_mark)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar_value(node, key)
        if id(node) in self._open:
            return self._report(node, key, "the alias contains itself; write the value out")
        if len(key) > MAX_DEPTH:
            return self._report(node, key, f"nested deeper than {MAX_DEPTH} levels")
        self._open.add(id(node))
        try:
            return self._collection(node, key)
        finally:
            self._open.discard(id(node))

    def _scalar_value(self, node: yaml.ScalarNode, key: Key) -> Any:
        """Return a value that is no key: its variables are replaced, and its doubts are noted."""
        if self._environ is not None and "$" in node.value and node.tag in _TEXT_TAGS:
            found = self._replaced(node, key, self._environ)
            if found is None:
                return BROKEN
            node = found
        # A merged value comes after the value that overrides it.
        if node.tag in _NUMBER_TAGS:
            self._source.texts.setdefault(key, node.value)
        if node.style is None and (doubt := doubt_of(node.tag.removeprefix(_TAG), node.value)) is not None:
            self._source.doubts.setdefault(key, doubt)
        return self._scalar(node, key)

    def _replaced(self, node: yaml.ScalarNode, key: Key, environ: Mapping[str, str]) -> yaml.ScalarNode | None:
        """Replace the variables of a text. Without quotes it is read as if the value stood there."""
        try:
            value = replace_variables(node.value, environ)
        except BadVariable as error:
            self._report(node, key, str(error))
            return None
        if value == node.value:
            return node
        plain = _plain(value, node)
        self._source.variables.setdefault(key, Substituted(value, self._scalar(plain, key), node.value))
        return plain if node.style is None else _scalar_node("str", value, node, node.style)

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
        if name is True and key_node.value == _ON and key[-1:] == (_PLACEMENT,):
            name = _ON
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
        if node.tag in _NUMBER_TAGS and (":" in node.value or has_leading_zero(node.value)):
            return node.value  # YAML 1.1 reads 1:30 as 90, and 010 as 8; nobody means that
        if node.tag not in _NUMBER_TAGS | _OTHER_TAGS:
            return self._report(node, key, _unknown_tag(node))
        try:
            return SafeConstructor().construct_object(node)
        except (yaml.YAMLError, ValueError, LookupError):  # the tag does not fit, as in '!!int x'
            kind = node.tag.removeprefix(_TAG)
            return self._report(node, key, f"YAML cannot read {shorten(repr(node.value))} as {kind}; put it in quotes")

    def _report(self, node: yaml.Node, key: Key, message: str) -> Any:
        return self._source.report(key, message, _line(node))


def _plain(value: str, node: yaml.Node) -> yaml.ScalarNode:
    """Return a node for ``value`` as YAML reads it without quotes; a date stays text."""
    tag = _RESOLVER.resolve(yaml.ScalarNode, value, (True, False))
    return _scalar_node(tag.removeprefix(_TAG) if tag in _NUMBER_TAGS | _PLAIN_TAGS else "str", value, node)


def _scalar_node(kind: str, value: str, place: yaml.Node, style: str | None = None) -> yaml.ScalarNode:
    return yaml.ScalarNode(_TAG + kind, value, place.start_mark, place.end_mark, style)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _unknown_tag(node: yaml.Node) -> str:
    tag = node.tag.replace(_TAG, "!!")
    return f"the tag {shorten(tag)} is not allowed; write plain values, lists and mappings"
