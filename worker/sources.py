"""Where a mod's own code comes from: always fresh from its files, or from the snapshot of the last good run.

Own sources are compiled without bytecode caches. A ``.pyc`` counts as valid while the source's size and its modification
time in whole seconds match; an edit of the same size within the same second would therefore run the old code.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from types import CodeType, ModuleType
from typing import Any

from .compiled import Compiled, packed

LOCAL = "local_mods"
"""Parent package of ``./name`` mods, so that a folder named like a library does not shadow that library."""

MAX_SNAPSHOT_FILES = 1000
MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024  # well below the frame cap; larger code bases belong into an installed package

_SKIP = frozenset({"__pycache__", "node_modules", "site-packages", "tests", "versions"})


class Sources(MetaPathFinder):
    """Finds modules like the rest of `sys.meta_path`, but loads the mod's own ones without caches, and remembers them.

    Own is: everything below the mod's package, and any module outside the standard library and site-packages.

    Args:
        package: the mod's package or module, ``pkg.mods.wiki``.
        folder: the package's folder, if it is not to be found by its name: of a ``./name`` mod, importable as `local_name`
            says, and of a version that is not the installed one.
        snapshot: modules to use instead of the files, as `snapshot` returned them.
        compiled: code of sources that were compiled before, see `worker.compiled`.
    """

    def __init__(
        self,
        package: str,
        folder: str | None = None,
        snapshot: dict[str, Any] | None = None,
        compiled: dict[str, Any] | None = None,
    ) -> None:
        self.package = package
        self.folder = folder
        self._snapshot: dict[str, Any] = snapshot or {}
        self._loaded: dict[str, dict[str, Any]] = {}
        self._compiled = Compiled(compiled)
        self._codes: dict[str, CodeType] = {}  # by module: compiled here, and not yet told
        self._installed = installed_folders()

    @property
    def files(self) -> dict[str, bytes]:
        """File name to source of every own module loaded so far, as it was compiled."""
        return {entry["path"]: entry["source"] for entry in self._loaded.values()}

    def install(self) -> None:
        """Become the first to be asked for a module."""
        sys.meta_path.insert(0, self)

    # -- finding

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self._snapshot and (spec := self._from_snapshot(fullname)) is not None:
            return spec
        if self.folder is not None and (spec := self._local(fullname, self.folder)) is not None:
            return spec
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return self._freshened(spec)
        if self.folder is not None and self.package.startswith(fullname + "."):
            return _namespace(fullname, [])  # above the mod's package, which alone is known to be somewhere
        return None

    def _freshened(self, spec: ModuleSpec) -> ModuleSpec:
        if type(spec.loader) is SourceFileLoader and spec.origin and self._is_own(spec.name, spec.origin):
            spec.loader = _FreshLoader(spec.name, spec.origin, self)
            spec.cached = None
        return spec

    def _is_own(self, fullname: str, origin: str) -> bool:
        if fullname == self.package or fullname.startswith(self.package + "."):
            return True
        return not origin.startswith(self._installed)

    def _local(self, fullname: str, folder: str) -> ModuleSpec | None:
        if fullname == LOCAL:
            return _namespace(fullname, [])
        if fullname != self.package:
            return None
        init = os.path.join(folder, "__init__.py")
        if not os.path.isfile(init):
            return _namespace(fullname, [folder])
        return spec_from_file_location(
            fullname, init, loader=_FreshLoader(fullname, init, self), submodule_search_locations=[folder]
        )

    def _from_snapshot(self, fullname: str) -> ModuleSpec | None:
        entry = self._snapshot.get(fullname)
        if entry is not None:
            path = entry["path"]
            loader = _FreshLoader(fullname, path, self, entry["source"])
            locations = [os.path.dirname(path)] if entry["is_package"] else None
            return spec_from_file_location(fullname, path, loader=loader, submodule_search_locations=locations)
        if any(name.startswith(fullname + ".") for name in self._snapshot):
            return self._namespace_or_disk(fullname)
        return None

    def _namespace_or_disk(self, fullname: str) -> ModuleSpec | None:
        """A package that the snapshot only knows as a parent: its real form if it is still there, else an empty one."""
        if self.folder is not None and (fullname == LOCAL or fullname == self.package):
            return _namespace(fullname, [self.folder] if fullname == self.package else [])
        parent = fullname.rpartition(".")[0]
        path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, None)) is not None:
                return spec
        return _namespace(fullname, [])

    # -- remembering

    def remember(self, fullname: str, path: str, source: bytes) -> None:
        """Note an own module as it was compiled."""
        is_package = os.path.basename(path) == "__init__.py"
        self._loaded[fullname] = {"path": path, "source": source, "is_package": is_package}

    def code_of(self, fullname: str, path: str, source: bytes, compile: Callable[[bytes, str], CodeType]) -> CodeType:
        """The code of a source, compiled unless it was before."""
        code = self._compiled.find(path, source)
        if code is None:
            code = compile(source, path)
            if self._compiled.is_kept:
                self._codes[fullname] = code
        return code

    def snapshot(self) -> dict[str, Any]:
        """The own modules: those loaded, as they were compiled, and those below the package that may be imported later.

        Returns:
            ``{module: {"path", "source", "is_package"}}``; with ``code`` if it was compiled here and not told before.

        Raises:
            ValueError: over `MAX_SNAPSHOT_FILES` or `MAX_SNAPSHOT_BYTES`.
        """
        modules = dict(self._loaded)
        for fullname, path in self._below_package():
            if fullname not in modules:
                with open(path, "rb") as file:
                    source = file.read()
                modules[fullname] = {"path": path, "source": source, "is_package": path.endswith("__init__.py")}
        size = sum(len(entry["source"]) for entry in modules.values())
        if len(modules) > MAX_SNAPSHOT_FILES or size > MAX_SNAPSHOT_BYTES:
            raise ValueError(
                f"{len(modules)} source files of {size} bytes; at most {MAX_SNAPSHOT_FILES} of {MAX_SNAPSHOT_BYTES} are kept"
            )
        for fullname, code in self._codes.items():
            modules[fullname] = {**modules[fullname], "code": packed(code)}
        self._codes.clear()
        return modules

    def _below_package(self) -> Iterator[tuple[str, str]]:
        """Module names and files below the mod's package (nothing for a mod that is a single module)."""
        module = sys.modules.get(self.package)
        for root in list(getattr(module, "__path__", ())):
            for folder, subfolders, files in os.walk(root):
                subfolders[:] = sorted(name for name in subfolders if name.isidentifier() and name not in _SKIP)
                inner = os.path.relpath(folder, root)
                prefix = self.package if inner == "." else f"{self.package}.{inner.replace(os.sep, '.')}"
                for name in sorted(files):
                    stem, ext = os.path.splitext(name)
                    if ext == ".py" and stem.isidentifier():
                        fullname = prefix if stem == "__init__" else f"{prefix}.{stem}"
                        yield fullname, os.path.join(folder, name)


class _FreshLoader(SourceFileLoader):
    """Reads the source each time, and no ``.pyc``; writes none."""

    def __init__(self, fullname: str, path: str, sources: Sources, source: bytes | None = None) -> None:
        super().__init__(fullname, path)
        self._sources = sources
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path) if self._source is None else self._source
        self._sources.remember(fullname, path, source)
        _own[fullname] = None
        return self._sources.code_of(fullname, path, source, self.source_to_code)


def own_modules() -> list[ModuleType]:
    """The mod's own modules, as far as they are loaded."""
    # Not by looking at each module that there is: a forked worker would make all that memory its own, only to end.
    return [
        module
        for name in _own
        if (module := sys.modules.get(name)) is not None
        and isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _FreshLoader)
    ]


_own: dict[str, None] = {}  # names of the modules that were read afresh


def local_name(mod_path: str) -> str:
    """The import name of a ``./name`` mod's package: letters, digits and underscores below `LOCAL`."""
    name = os.path.basename(mod_path)
    return f"{LOCAL}.{''.join(char if char.isalnum() else '_' for char in name)}"


def _namespace(fullname: str, locations: list[str]) -> ModuleSpec:
    spec = ModuleSpec(fullname, None, is_package=True)
    spec.submodule_search_locations = locations
    return spec


@lru_cache(maxsize=1)  # asked for before workers are forked
def installed_folders() -> tuple[str, ...]:
    """Folders whose modules are libraries, not the mod's own: the standard library, site-packages, this package."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [site.getusersitepackages(), *site.getsitepackages()]
    house = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Of an editable install only the sub-packages are ours: the rest of the checkout may hold a user's mods.
    folders += [os.path.join(house, name) for name in ("ipc", "mods", "worker", "supervisor", "modvisor")]
    return tuple(os.path.join(folder, "") for folder in folders)
