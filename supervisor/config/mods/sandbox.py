"""The key ``sandbox``: what a mod's processes may reach, by a profile or part by part."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....ipc.cell import ALL, DEFAULT, HIDDEN, LISTED, OFF, PROFILES, STRICT
from ..values.basic import absolute_path, flag, list_of, one_of, or_null, read_keys, size, whole
from ..values.hosts import host_rule
from ..values.keys import key, keys_of, readers_of, schema_of
from ..values.reader import Location, Reader, got
from ..values.schema_parts import Schema, either, listed, words
from ..yaml.source import BROKEN

FAIL, WARN = FALLBACKS = ("fail", "warn")
OWN, SHARED = "own", "shared"
NETWORK = "network"

MAX_UID = 2**31 - 2
"""The kernel knows more, some file systems and tools do not."""

_hosts = list_of(host_rule, "[api.example.com]")
_paths = list_of(absolute_path, "[/srv/data]")


def _network(value: Any, at: Location) -> Any:
    if value == ALL:
        return ALL
    if not isinstance(value, (list, tuple)):
        return at.wrong(f"expected `all`, or a list of hosts such as [api.example.com], got {got(value)}")
    return _hosts(value, at)


def _profile(value: Any, at: Location) -> Any:
    return _word(OFF if value is False else value, at)  # YAML reads off as false


_word = one_of(*PROFILES)
profile = Reader(_word.accepts, _profile, schema=lambda: words(*PROFILES, False))


@dataclass(frozen=True, slots=True)
class SandboxConfig:
    """A profile and its parts; None: as the profile says, and without a profile, as the network says."""

    profile: str | None = key(
        None,
        or_null(profile),
        "`off`, `default` or `strict`, see [security.md](security.md); null: that of the network, and there: `default`",
    )
    processes: str | None = key(
        None,
        or_null(one_of(OWN, SHARED)),
        "`own`: the mod sees and signals its own processes alone, and shares no memory with others; `shared`: those of "
        "its user",
    )
    files: str | None = key(
        None,
        or_null(one_of(ALL, HIDDEN, LISTED)),
        "`all`: what its user may read; `hidden`: all but what is the network's: its state folder and its file; "
        "`listed`: its code, its Python, the system's libraries, its storage, a /tmp of its own, `read` and `write`",
    )
    network: Any = key(
        None,
        or_null(Reader("`all` or list of hosts", _network, schema=lambda: either(words(ALL), _hosts.schema()))),
        "`all`: what the machine reaches; a list: these hosts alone, through a relay of the network; `[]`: none",
    )
    exec: bool | None = key(None, or_null(flag), "whether the mod may start programs")
    syscalls: str | None = key(
        None,
        or_null(one_of(ALL, LISTED)),
        "`listed`: system calls beyond those of ordinary programs are refused; `all`: few are",
    )
    user: str | None = key(
        None,
        or_null(one_of(OWN, NETWORK)),
        "`own`: a user id of the mod's own, if the network runs as root, see `sandbox_uids`; `network`: that of the "
        "network",
    )
    read: tuple[Path, ...] = key((), _paths, "more files and folders that the mod may read, also hidden ones")
    write: tuple[Path, ...] = key((), _paths, "more files and folders that the mod may write to")
    tmp: int | None = key(
        None, or_null(size(4096)), "how large its own /tmp may grow, with `files: listed`; null: 64 MiB"
    )


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox with every part decided.

    Attributes:
        required: a part that cannot be enforced fails the load.
        network: hosts; None: no bound.
    """

    profile: str
    required: bool
    processes: bool
    files: str
    network: tuple[str, ...] | None
    exec: bool
    syscalls: bool
    user: bool
    read: tuple[Path, ...]
    write: tuple[Path, ...]
    tmp: int


def _uids(value: Any, at: Location) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return at.wrong(f"expected the first id and how many, such as [1500000000, 10000], got {got(value)}")
    first, count = (whole(1, MAX_UID)(each, at / index) for index, each in enumerate(value))
    if isinstance(first, int) and isinstance(count, int):
        if first + count - 1 <= MAX_UID:
            return first, count
        return at.wrong(f"the last id would be {first + count - 1}; the largest is {MAX_UID}")
    return BROKEN


uid_range = Reader(
    "list of the first id and their number",
    _uids,
    lambda value: f"[{value[0]}, {value[1]}]",
    lambda: listed(whole(1, MAX_UID).schema(), minItems=2, maxItems=2),
)


_PARTS: dict[str, dict[str, Any]] = {
    OFF: {"processes": SHARED, "files": ALL, "network": ALL, "exec": True, "syscalls": ALL, "user": NETWORK},
    DEFAULT: {"processes": OWN, "files": HIDDEN, "network": ALL, "exec": True, "syscalls": ALL, "user": NETWORK},
    STRICT: {"processes": OWN, "files": LISTED, "network": (), "exec": False, "syscalls": LISTED, "user": OWN},
}

_TABLE = readers_of(SandboxConfig)


def _read(value: Any, at: Location) -> Any:
    if isinstance(value, dict):
        return SandboxConfig(**read_keys(value, at, _TABLE))
    found = profile(value, at)
    return SandboxConfig(found) if isinstance(found, str) else found


def _written(value: SandboxConfig) -> str:
    return value.profile or "{}"


def _schema() -> Schema:
    return either(profile.schema(), schema_of(keys_of(SandboxConfig)))


sandbox = Reader("`off`, `default`, `strict` or mapping", _read, _written, _schema)
"""Reads a profile's name, or a mapping as a `SandboxConfig`."""


def resolved_sandbox(mod: SandboxConfig | None, network: SandboxConfig | None, fallback: str) -> Sandbox:
    """Return what a mod gets: its own parts, then those of its profile, else the network's.

    A sandbox that nobody asked for is not required: an update refuses to load nothing that ran.
    """
    chain = [each for each in (mod, network) if each is not None]
    if mod is not None and mod.profile is not None:
        chain = [mod]
    profile = next((each.profile for each in chain if each.profile is not None), DEFAULT)
    parts = dict(_PARTS[profile])
    for each in reversed(chain):
        parts |= {name: value for name in parts if (value := getattr(each, name)) is not None}
    hosts = parts["network"]
    return Sandbox(
        profile,
        bool(chain) and fallback == FAIL,
        parts["processes"] == OWN,
        parts["files"],
        None if hosts == ALL else tuple(hosts),
        parts["exec"],
        parts["syscalls"] == LISTED,
        parts["user"] == OWN,
        tuple(path for each in chain for path in each.read),
        tuple(path for each in chain for path in each.write),
        next((each.tmp for each in chain if each.tmp is not None), 64 * 1024 * 1024),
    )
