"""Finds names that an import of a module would stumble over, without importing it.

Only what surely runs at an import counts: the module's own statements and those of its classes, not
the bodies of functions, and not what stands under an ``if`` or in a ``try``. A name that is bound
anywhere outside of functions counts as defined, whatever the order.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from typing import NamedTuple

_GIVEN = frozenset(dir(builtins)) | {
    "__annotations__", "__builtins__", "__cached__", "__class__", "__doc__", "__file__", "__loader__", "__module__",
    "__name__", "__package__", "__path__", "__qualname__", "__spec__",
}  # fmt: skip
_DYNAMIC = frozenset({"globals", "exec", "vars", "locals", "setattr", "__dict__", "modules", "_convert_"})
"""With one of these, a module may bind names that its source does not show."""


class Undefined(NamedTuple):
    """A name that nothing in its module defines."""

    line: int
    name: str


def undefined_names(source: str | bytes) -> list[Undefined]:
    """Return the undefined names that an import of this source would use, in order.

    [] for a source that is not Python, or that may define names in ways that cannot be seen.
    """
    try:
        tree = ast.parse(source)
        nodes = list(_outside_of_functions(tree))
        names = {getattr(node, "id", None) or getattr(node, "attr", None) for node in ast.walk(tree)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    defined = {name for node in nodes for name in _bound_by(node)} | _globals_of_functions(tree)
    if "*" in defined or names & _DYNAMIC:
        return []
    executed = _Executed(has_annotations=not _postponed(tree))
    executed.visit(tree)
    return [used for used in executed.used if used.name not in defined | _GIVEN]


def _postponed(tree: ast.Module) -> bool:
    """Tell whether the module's annotations are not evaluated when it is imported."""
    imports = (node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__")
    return sys.version_info >= (3, 14) or any(alias.name == "annotations" for node in imports for alias in node.names)


def _outside_of_functions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those in functions, and those that only type checkers see."""
    for child in ast.iter_child_nodes(node):
        yield child
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and _for_type_checkers(child.test):
            for other in child.orelse:
                yield other
                yield from _outside_of_functions(other)
        else:
            yield from _outside_of_functions(child)


def _for_type_checkers(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))


def _bound_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
            yield from (parameter.name for parameter in getattr(node, "type_params", ()))
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in names)
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name


def _globals_of_functions(tree: ast.Module) -> set[str]:
    return {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


class _Executed(ast.NodeVisitor):
    """Collects the names that are looked up for sure when the module is imported."""

    def __init__(self, *, has_annotations: bool) -> None:
        self._has_annotations = has_annotations
        self.used: list[Undefined] = []

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.used.append(Undefined(node.lineno, node.id))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if getattr(node, "type_params", ()):
            return
        arguments = node.args
        found: list[ast.expr | None] = [*node.decorator_list, *arguments.defaults, *arguments.kw_defaults]
        if self._has_annotations:
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
            found += [node.returns, *(argument.annotation for argument in every if argument is not None)]
        for expression in found:
            if expression is not None:
                self.visit(expression)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._has_annotations:
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if not getattr(node, "type_params", ()):
            self.generic_visit(node)

    def _skip(self, node: ast.AST) -> None:
        """Leave out what may not run, or may fail on purpose."""

    visit_If = visit_Try = visit_TryStar = visit_Lambda = visit_IfExp = visit_BoolOp = visit_Match = visit_While = _skip
    visit_Delete = visit_TypeAlias = _skip
