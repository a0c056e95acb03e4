"""A mod's own code: read fresh from its files, or from the snapshot of the last good run.

Own sources are compiled without Python's bytecode caches. A ``.pyc`` counts as valid while the
source's size and its modification time in whole seconds match. So an edit of the same size within
the same second would run the old code.

Compiling is pure, so code that was compiled once stays valid for the same source and the same
interpreter. The supervisor keeps what the workers of a mod have compiled, and hands it to the next
worker (`docs/protocol.md`). The source is still read each time, and it alone decides.
"""

from __future__ import annotations

import marshal
import os
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import MAGIC_NUMBER, decode_source, spec_from_file_location
from types import CodeType, ModuleType
from typing import Any

from . import ahead

LOCAL = "local_mods"
"""The parent package of ``./name`` mods, so that a folder does not shadow a library of its name."""

MAX_SNAPSHOT_FILES = 1000
MAX_SNAPSHOT_BYTES = 16 * 1024 * 1024
"""Well below the frame cap. Larger code bases belong into an installed package."""

_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "tests", "versions"})


class Sources(MetaPathFinder):
    """Finds modules like the rest of `sys.meta_path`; loads and remembers the mod's own ones.

    A mod's own modules are those below its package, and all outside the standard library and
    site-packages.

    Args:
        package: the mod's package or module, ``pkg.mods.wiki``.
        folder: the package's folder, if it is not to be found by its name: for a ``./name`` mod
            (see `local_name`), and for a version that is not the installed one.
        snapshot: modules to use instead of the files, as `snapshot` returned them.
        compiled: code that was compiled before, see `Compiled`.
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
        self._codes: dict[str, CodeType] = {}  # by module: compiled here, and not yet reported
        self._installed = installed_folders()

    @property
    def files(self) -> dict[str, bytes]:
        """The file name and the source of every own module loaded so far, as it was compiled."""
        return {entry["path"]: entry["source"] for entry in self._loaded.values()}

    def install(self) -> None:
        """Become the first finder that is asked for a module."""
        self._take_over()
        sys.meta_path.insert(0, self)

    def _take_over(self) -> None:
        """Keep the own modules that were imported ahead if they are what an import would give now; else drop them."""
        modules = ahead.imported_ahead(self.package)
        paths = {name: path for name, module in modules.items() if (path := getattr(module, "__file__", None))}
        found = {name: self._source_now(name, path) for name, path in paths.items()}
        if self.folder is None and all(ahead.is_as_imported(name, source) for name, source in found.items()):
            for name, path in paths.items():
                self.remember(name, path, found[name])
        else:
            for name in modules:
                del sys.modules[name]

    def _source_now(self, fullname: str, path: str) -> bytes:
        """Return the source that an import would run now; nothing if there is none."""
        if self._snapshot:
            return self._snapshot.get(fullname, {}).get("source", b"")
        with suppress(OSError), open(path, "rb") as file:
            return file.read()
        return b""

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
            return _namespace(fullname, [])  # a parent of the mod's package
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
            return _namespace(fullname, [folder], _FolderLoader(folder))
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
        """Return a package that the snapshot only implies: from disk if it exists, else empty."""
        if self.folder is not None and (fullname == LOCAL or fullname == self.package):
            own = fullname == self.package
            return _namespace(fullname, [self.folder] if own else [], _FolderLoader(self.folder) if own else None)
        parent = fullname.rpartition(".")[0]
        path = getattr(sys.modules.get(parent), "__path__", None) if parent else None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(fullname, path, None)) is not None:
                return spec
        return _namespace(fullname, [])

    # -- remembering

    def remember(self, fullname: str, path: str, source: bytes) -> None:
        """Remember an own module as it was compiled."""
        is_package = os.path.basename(path) == "__init__.py"
        self._loaded[fullname] = {"path": path, "source": source, "is_package": is_package}

    def source_of(self, fullname: str) -> bytes | None:
        """Return the source of an own module as it was compiled; None if it was not loaded."""
        entry = self._loaded.get(fullname)
        return None if entry is None else entry["source"]

    def code_of(self, fullname: str, path: str, source: bytes, compile: Callable[[bytes, str], CodeType]) -> CodeType:
        """Return the code of a source; compile it unless that was done before."""
        code = self._compiled.find(path, source)
        if code is None:
            code = compile(source, path)
            if self._compiled.is_kept:
                self._codes[fullname] = code
        return code

    def snapshot(self) -> dict[str, Any]:
        """Return the own modules: the loaded ones, and those below the package that may follow.

        Returns:
            ``{module: {"path", "source", "is_package"}}``; with ``code`` if it was compiled here
            and not reported before.

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
        """Yield name and file of each module below the mod's package; none for a single module."""
        module = sys.modules.get(self.package)
        for root in list(getattr(module, "__path__", ())):
            for folder, subfolders, files in os.walk(root):
                subfolders[:] = sorted(name for name in subfolders if name.isidentifier() and name not in _SKIPPED)
                inner = os.path.relpath(folder, root)
                prefix = self.package if inner == "." else f"{self.package}.{inner.replace(os.sep, '.')}"
                for name in sorted(files):
                    stem, ext = os.path.splitext(name)
                    if ext == ".py" and stem.isidentifier():
                        fullname = prefix if stem == "__init__" else f"{prefix}.{stem}"
                        yield fullname, os.path.join(folder, name)


class Compiled:
    """Code that was handed to this worker.

    Args:
        known: file name to digest of the source and packed code; None: the supervisor keeps none.
    """

    def __init__(self, known: Mapping[str, Any] | None) -> None:
        self.is_kept = known is not None
        self._known = known or {}

    def find(self, path: str, source: bytes) -> CodeType | None:
        match self._known.get(path):
            case [bytes(of), bytes(code)] if of == digest(source) and code.startswith(MAGIC_NUMBER):
                try:
                    found = marshal.loads(memoryview(code)[len(MAGIC_NUMBER) :])
                except (ValueError, EOFError, TypeError):
                    return None
                return found if isinstance(found, CodeType) else None
        return None


def digest(source: bytes) -> bytes:
    return blake2b(source, digest_size=16).digest()


def packed(code: CodeType) -> bytes:
    """Return code as bytes that name their format, so that another Python does not take them."""
    return MAGIC_NUMBER + marshal.dumps(code)


class _FreshLoader(SourceFileLoader):
    """Reads the source each time; neither reads nor writes a ``.pyc``."""

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

    def get_source(self, fullname: str) -> str | None:
        source = self._sources.source_of(fullname)
        return super().get_source(fullname) if source is None else decode_source(source)


class _FolderLoader(Loader):
    """Loads a mod's package that has no ``__init__.py``: its files can be read with `importlib.resources`."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "__init__.py")  # as if there were one

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        pass

    def get_resource_reader(self, _fullname: str) -> Any:
        from importlib.resources.readers import FileReader  # late, because it is large and seldom needed

        return FileReader(self)  # type: ignore[arg-type] - it needs the path alone


def own_modules() -> list[ModuleType]:
    """Return the loaded ones of the mod's own modules."""
    # To look at every loaded module would copy its memory, in a forked worker that is about to end.
    return [
        module
        for name in _own
        if (module := sys.modules.get(name)) is not None
        and isinstance(getattr(getattr(module, "__spec__", None), "loader", None), _FreshLoader)
    ]


_own: dict[str, None] = {}  # names of the modules that `_FreshLoader` loaded


def local_name(mod_path: str) -> str:
    """Return the import name of a ``./name`` mod's package: an identifier below `LOCAL`."""
    name = os.path.basename(mod_path)
    return f"{LOCAL}.{''.join(char if char.isalnum() else '_' for char in name)}"


def _namespace(fullname: str, locations: list[str], loader: Loader | None = None) -> ModuleSpec:
    spec = ModuleSpec(fullname, loader, is_package=True)
    spec.submodule_search_locations = locations
    return spec


@lru_cache(maxsize=1)  # the guardian fills it, before workers are forked
def installed_folders() -> tuple[str, ...]:
    """Return the folders of libraries: the standard library, site-packages and this package."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [site.getusersitepackages(), *site.getsitepackages()]
    house = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Only the sub-packages: a checkout may hold a user's mods beside them.
    folders += [os.path.join(house, name) for name in ("ipc", "mods", "worker", "supervisor", "modvisor")]
    return tuple(os.path.join(folder, "") for folder in folders)
