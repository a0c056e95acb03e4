"""``network.yaml`` to frozen dataclasses; every mistake is reported at once, with file, line and key.

The accepted keys stand in tables at the end, ``key: reader``; `modvisor.supervisor.config.values` says what a reader is.
``docs/config.md`` describes every key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ...ipc.address import AGENT, BROADCAST, MAX_ID, MOD, check_mod_id, check_mod_path, mod_id_of, parse_address
from ...ipc.errors import InvalidEvent
from ...ipc.partition import SOURCE, is_partition
from . import audience_values
from . import values as values
from .audience import Audience
from .values import EnvValue, Location, Reader, got, hint
from .versions import Requirement
from .yaml_source import BROKEN, ConfigError, Problem, Source, format_key, load_yaml

__all__ = [
    "PERMISSIONS",
    "AdminConfig",
    "AgentsConfig",
    "ConfigError",
    "EnvValue",
    "GroupConfig",
    "JournalConfig",
    "LimitsConfig",
    "LogConfig",
    "ModConfig",
    "NetworkConfig",
    "Problem",
    "RestartConfig",
    "is_allowed",
    "load_config",
    "parse_config",
    "parse_mod",
]

PERMISSIONS = frozenset({"mods", "agents", "channels"})
POLICIES = ("permanent", "transient", "temporary")
INBOX_POLICIES = ("drop_oldest", "reject")
AT_LEAST_ONCE, AT_MOST_ONCE = DELIVERIES = ("at_least_once", "at_most_once")
SIDE_BY_SIDE, STOP_FIRST = RELOADS = ("side_by_side", "stop_first")
FORK, EXEC = LAUNCHES = ("fork", "exec")
SYNCS = ("normal", "full")

MAX_WORKERS = 256  # of one mod, on one machine
MIN_MEMORY = 1_000_000  # no Python starts with less; whoever writes 512 means '512MB'


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one mod may use. Times in seconds, memory in bytes; None is no limit of its own."""

    concurrency: int = 64  # events handled at once
    queue: int = 1000  # events waiting for a free place
    queue_bytes: int = 64 * 1024 * 1024  # of these events together, and of the copies for observers
    observe_queue: int = 10_000  # copies waiting for an observer
    event_timeout: float | None = None  # None: the network's
    start_timeout: float = 30.0
    hang_timeout: float = 10.0
    drain_timeout: float = 5.0  # events in flight may finish
    shutdown_timeout: float = 3.0  # then the mod's shutdown() and the end of its process
    term_timeout: float = 1.5  # then SIGTERM; after it SIGKILL
    unload_timeout: float = 10.0  # for all of these together
    memory: int | None = None  # of the process tree; above it the mod is killed
    memory_soft: int | None = None  # of the process tree; above it the mod is replaced by a fresh process
    disk: int | None = None  # of the mod's storage folder
    cpu: float | None = None  # cores; above it the mod gets what others leave over
    cpu_seconds: int | None = None  # of one process
    open_files: int | None = 1024  # of one process
    processes: int | None = 100  # of the process tree
    threads: int | None = 500  # of the process tree
    log_rate: int = 256 * 1024  # bytes of output read per second


@dataclass(frozen=True, slots=True)
class RestartConfig:
    """When a mod that ended is started again, see `modvisor.supervisor.lifecycle.restart`. Times in seconds."""

    policy: str = "permanent"
    max_restarts: int = 5
    window: float = 60.0
    first_delay: float = 0.1
    max_delay: float = 30.0
    healthy_after: float = 60.0
    probe_after: float | None = None  # None: quarantine ends when somebody asks for it


@dataclass(frozen=True, slots=True)
class ModConfig:
    """One mod: what to load, under which id, with what rights and limits."""

    path: str
    mod_id: str
    enabled: bool = True
    required: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    env: dict[str, EnvValue] = field(default_factory=dict)
    permissions: frozenset[str] = frozenset()
    speak_for: frozenset[str] = frozenset()
    limits: LimitsConfig = LimitsConfig()
    restart: RestartConfig = RestartConfig()
    delivery: str = AT_LEAST_ONCE  # of events that were being handled when the mod died
    max_attempts: int = 2  # then the event is a dead letter
    durable: bool = False  # accepted events are on disk before the mod sees them
    checkpoint_every: float | None = None  # seconds; None: only when the mod asks for it
    workers: int | None = None  # processes that share its events; None: one that has them all
    partition_by: str = SOURCE  # which of them gets an event
    replica: int | None = None  # which of them this is the config of
    reload: str = SIDE_BY_SIDE
    launch: str = FORK
    probation: float | None = 10.0  # seconds after a reload in which a failure takes it back; None: it stands at once
    aliases: frozenset[str] = frozenset()  # other ids that events and commands may call it by
    watch: bool | None = None  # reload it when its files are saved; None: as the network says
    version: str | None = None  # which one is wanted; None: whichever there is
    paths: tuple[Path, ...] = ()  # extra folders, first on its worker's sys.path
    python: Path | None = None  # the interpreter of its worker; None: the network's own
    requires: tuple[Requirement, ...] = ()  # mods that it needs
    optional: tuple[Requirement, ...] = ()  # mods that it uses when they are loaded
    dependency: bool = field(default=False, compare=False)  # loaded only because another mod requires it
    from_file: bool = True  # the file rules over the journal
    # Whose events it gets from its load on; None: everybody's. Not compared: another audience asks for no other process.
    audience: Audience | None = field(default=None, compare=False)
    # What it was made of, of a mod not from the file.
    spec: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    # The keys that were given, such as "durable" and "limits.memory": a mod.yaml does not change these.
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    # The version that its mod.yaml says it is.
    declared: str | None = field(default=None, compare=False, repr=False)
    # Before a mod.yaml completed it.
    asked: ModConfig | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The mod's id, of each of its workers."""
        return self.mod_id.partition("#")[0]

    @property
    def as_asked(self) -> ModConfig:
        """Without what a mod.yaml added."""
        return self.asked or self


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group agents join with a password; ``password_hash`` is its SHA-256 in hexadecimal, None: nobody can join."""

    name: str
    permissions: frozenset[str] = frozenset()
    password_hash: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    inbox_size: int = 1000
    inbox_policy: str = "drop_oldest"
    expire_after: float | None = 300.0  # seconds without a poll or request; None: never
    max_agents: int = 10_000
    default_group: str | None = None
    inbox_bytes: int = 16 * 1024 * 1024  # packed size of the events of one inbox


@dataclass(frozen=True, slots=True)
class AdminConfig:
    token: EnvValue | None = None


@dataclass(frozen=True, slots=True)
class LogConfig:
    max_bytes: int = 1_000_000
    backups: int = 3


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """What outlives the supervisor, and how much of it. Sizes in bytes, ages in seconds; the oldest go first."""

    sync: str = "normal"  # full: safe against power loss too
    dead_letters: int = 10_000
    dead_letter_bytes: int = 128 * 1024 * 1024
    dead_letter_age: float = 30 * 86400.0
    durable_events: int = 100_000  # accepted and not answered; further ones are refused
    durable_bytes: int = 512 * 1024 * 1024
    checkpoint_bytes: int = 16 * 1024 * 1024  # of one checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """A whole network. Paths are absolute; ``file`` is None for a network made of plain data."""

    name: str
    network_id: str
    base_dir: Path
    storage: Path
    file: Path | None = None
    host: str = "127.0.0.1"
    port: int | None = None  # None: do not listen; 0: a free one
    event_timeout: float = 30.0
    polling: str = values.AUTO
    mod_paths: tuple[Path, ...] = ()  # extra folders on the workers' sys.path
    mods: tuple[ModConfig, ...] = ()
    agent_groups: dict[str, GroupConfig] = field(default_factory=dict)
    allowed_mods: tuple[str, ...] | None = None  # None: every mod may be loaded
    agents: AgentsConfig = AgentsConfig()
    admin: AdminConfig = AdminConfig()
    log: LogConfig = LogConfig()
    journal: JournalConfig = JournalConfig()
    cgroups: bool = True  # use a delegated cgroup v2 subtree where there is one
    watch: bool = False  # reload mods when their files are saved
    preload: tuple[str, ...] = ()  # libraries that are imported before workers are forked


def load_config(path: str | Path) -> NetworkConfig:
    """Read a network file.

    Raises:
        ConfigError: holds every mistake in the file, or the one reason why it cannot be read.
    """
    source = Source(str(path))
    data = load_yaml(str(path), source)
    file = Path(os.path.abspath(path))
    config = BROKEN if data is BROKEN else _network(data, Location(source, file.parent), file)
    source.check()
    return config


def parse_config(data: dict[str, Any], *, base_dir: str | Path) -> NetworkConfig:
    """The same from plain data; relative paths start at ``base_dir``, and problems have no lines."""
    at = _place(base_dir)
    config = _network(data, at, None)
    at.source.check()
    return config


def parse_mod(data: dict[str, Any] | str, *, base_dir: str | Path, from_file: bool = False) -> ModConfig:
    """One entry of ``mods:``, for a mod that is loaded while the network runs."""
    at = _place(base_dir)
    mod = _mod(data, at, from_file)
    at.source.check()
    return mod


def is_allowed(allowed_mods: Iterable[str] | None, mod_path: str) -> bool:
    """Whether a mod may be loaded: a pattern such as ``modvisor.mods.*`` or ``./*`` fits it, or there is no list at all."""
    return allowed_mods is None or any(fnmatchcase(mod_path, pattern) for pattern in allowed_mods)


def _place(base_dir: str | Path) -> Location:
    return Location(Source(), Path(os.path.abspath(base_dir)))


# -- the network as a whole


def _network(data: Any, at: Location, file: Path | None) -> Any:
    if data is None:
        return at.wrong("empty; a network needs at least 'network: {name: demo}'")
    found = values.keys(data, at, _TOP)
    if isinstance(data, dict) and "network" not in data:
        (at / "network").wrong("missing; a network needs at least 'network: {name: demo}'")
    _check_default_group(data, found, at)
    _check_allowed(found, at)
    _check_preload(found, at)
    if isinstance(data, dict) and ("agent_groups" in found or "agent_groups" not in data):
        audience_values.check_groups(data.get("mods"), found.get("agent_groups", {}), at / "mods")
    network = {"name": "", **found.pop("network", {})}
    return NetworkConfig(
        network_id=network.pop("id", None) or _slug(network["name"]),
        base_dir=at.base_dir,
        storage=network.pop("storage", None) or at.base_dir / ".modvisor",
        file=file,
        log=found.pop("logs", LogConfig()),
        **network,
        **found,
    )


def _network_keys(value: Any, at: Location) -> dict[str, Any]:
    if value is None or (isinstance(value, dict) and "name" not in value):
        (at / "name").wrong("missing; give the network a name")
    return values.keys(value, at, _NETWORK)


def _check_default_group(data: Any, found: dict[str, Any], at: Location) -> None:
    agents, groups = found.get("agents"), found.get("agent_groups", {})
    if agents is None or agents.default_group is None or agents.default_group in groups:
        return
    if "agent_groups" in found or "agent_groups" not in data:  # else the groups themselves could not be read
        (at / "agents" / "default_group").wrong(
            f"no group {agents.default_group!r} in agent_groups; {hint(agents.default_group, groups)}"
        )


def _check_allowed(found: dict[str, Any], at: Location) -> None:
    """The list holds for the file's own mods too: better said now than when each of them is refused."""
    for mod in found.get("mods", ()):
        if mod.enabled and mod.path and not is_allowed(found.get("allowed_mods"), mod.path):
            (at / "allowed_mods").wrong(f"no pattern fits {mod.path!r}, which 'mods' lists; add one")


def _check_preload(found: dict[str, Any], at: Location) -> None:
    """What is imported once for all is not imported afresh, as a mod's own code has to be."""
    for index, name in enumerate(found.get("network", {}).get("preload", ())):
        place = at / "network" / "preload" / index
        if name == "modvisor" or name.startswith("modvisor."):
            place.wrong(f"{name} is part of the network, which sees to that itself; take it out of the list")
        for mod in found.get("mods", ()):
            if mod.path and f"{mod.path.partition(':')[0]}.".startswith(f"{name}."):
                place.wrong(
                    f"{name} holds the mod {mod.path}, and a reload is to run its fresh code; name libraries only"
                )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_ID] or "network"


def _network_id(value: Any, at: Location) -> Any:
    found = values.text(value, at)
    if found is BROKEN or (_NETWORK_ID.fullmatch(found) and ".." not in found):
        return found
    return at.wrong(f"expected letters, digits, '_', '.', '@', '-' (1 to {MAX_ID}, no '..'), got {got(found)}")


def _allowed_mods(value: Any, at: Location) -> Any:
    if value is None:  # every entry commented out: whoever did that hardly meant to allow everything
        return at.wrong("expected a list; write [] to allow no mod, or leave the key out to allow every mod")
    return values.list_of(values.text, "['modvisor.mods.*', './*']")(value, at)


# -- mods


def _mods(value: Any, at: Location) -> Any:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        return at.wrong(f"expected a list of mods, got {got(value)}")
    mods: list[ModConfig] = []
    places: dict[str, Location] = {}
    for index, entry in enumerate(value):
        mod = _mod(entry, at / index, from_file=True)
        if mod is not BROKEN:
            mods.append(mod)
            _check_unique(mod, at / index, places)
    audience_values.check_percents({mod.mod_id: mod.audience for mod in mods if mod.enabled}, places)
    return tuple(mods)


def _check_unique(mod: ModConfig, at: Location, places: dict[str, Location]) -> None:
    first = places.setdefault(mod.mod_id, at)
    if first is not at:
        line = at.source.line(first.key)
        where = format_key(first.key) + (f" (line {line})" if line else "")
        at.wrong(f"the mod id {mod.mod_id!r} is taken by {where}; give one of them an 'id' of its own")


def _mod(value: Any, at: Location, from_file: bool) -> Any:
    if value is BROKEN:
        return BROKEN
    if isinstance(value, str):  # a mod with nothing but a path
        path = _mod_path(value, at)
        mod_id = _id_of(path, at)
        return BROKEN if mod_id is BROKEN else ModConfig(path, mod_id, from_file=from_file)
    if not isinstance(value, dict):
        return at.wrong(f"expected a mod_path, or a mapping with a 'path', got {got(value)}")
    found = values.keys(value, at, _MOD)
    check_limits(found.get("limits", LimitsConfig()), found.get("restart", RestartConfig()), at)
    _check_env(found, at)
    alias = _path_key(value, at)
    path = found.pop(alias, BROKEN)
    found.pop("name", None)
    mod_id = found.pop("id", BROKEN) if "id" in value else _id_of(path, at / alias)
    if mod_id is BROKEN:
        return BROKEN
    return ModConfig("" if path is BROKEN else path, mod_id, from_file=from_file, given=_given(value), **found)


def _given(entry: dict[Any, Any]) -> frozenset[str]:
    """The keys of a mod's entry, those of its sections as ``limits.memory``."""
    sections = {name: section for name, section in entry.items() if isinstance(section, dict)}
    return frozenset(entry) | {f"{name}.{key}" for name, section in sections.items() for key in section}


def _path_key(value: dict[Any, Any], at: Location) -> str:
    """Which of 'path' and its other name 'name' the entry uses."""
    if "path" in value:
        if "name" in value:
            (at / "name").wrong("another word for 'path', which is given too; keep one of them (an 'id' names the mod)")
        return "path"
    if "name" not in value:
        (at / "path").wrong("missing; give the mod_path, such as 'modvisor.mods.workspace.wiki' or './name'")
    return "name"


def _id_of(path: Any, at: Location) -> Any:
    try:
        return BROKEN if path is BROKEN else mod_id_of(path)
    except InvalidEvent as error:
        return at.wrong(str(error))


def _check_env(found: dict[str, Any], at: Location) -> None:
    if found.get("enabled", True):  # a mod that is not loaded need not have its secrets here
        for name, value in found.get("env", {}).items():
            values.resolved(value, at / "env" / name)


def _mod_path(value: Any, at: Location) -> Any:
    path = values.text(value, at)
    if path is BROKEN:
        return BROKEN
    try:
        check_mod_path(path)
    except InvalidEvent as error:
        return at.wrong(str(error))
    if path.startswith("./"):
        folders = (at.base_dir / "mods" / path[2:], at.base_dir / path[2:])
        if not any(map(os.path.isdir, folders)):
            return at.wrong(f"no such mod: neither {folders[0]} nor {folders[1]} is a folder")
    return path


def _mod_id(value: Any, at: Location) -> Any:
    mod_id = values.text(value, at)
    try:
        return mod_id if mod_id is BROKEN else check_mod_id(mod_id)
    except InvalidEvent as error:
        return at.wrong(str(error).partition("; give")[0])


def _permission(value: Any, at: Location) -> Any:
    if isinstance(value, str) and value in PERMISSIONS:
        return value
    return at.wrong(f"unknown permission {got(value)}; {hint(value, PERMISSIONS)}")


def _speaker(value: Any, at: Location) -> Any:
    source = values.text(value, at)
    if source is BROKEN or source in ("*", f"{AGENT}:*", f"{MOD}:*"):
        return source
    try:
        address = parse_address(source)
    except InvalidEvent as error:
        return at.wrong(str(error))
    if address.role in (AGENT, MOD) and address.id != BROADCAST:
        return str(address)
    return at.wrong(f"expected a source such as 'agent:alice', 'mod:wiki', 'agent:*' or '*', got {got(source)}")


def _partition(value: Any, at: Location) -> Any:
    found = values.text(value, at)
    if found is BROKEN or is_partition(found):
        return found
    return at.wrong(f"expected source, least_loaded or a path such as payload.order.id, got {got(found)}")


def check_limits(limits: LimitsConfig, restart: RestartConfig, at: Location) -> None:
    """Report what does not go together in an entry of ``mods``, or in a mod.yaml, at ``at``."""
    if limits.memory is not None and limits.memory_soft is not None and limits.memory_soft >= limits.memory:
        (at / "limits" / "memory_soft").wrong(
            f"must be less than memory, {limits.memory} bytes: the soft limit is to act first"
        )
    if restart.max_delay < restart.first_delay:
        (at / "restart" / "max_delay").wrong(f"must not be less than first_delay, {restart.first_delay:g} seconds")


# -- groups


def _group(value: Any, at: Location) -> Any:
    name = str(at.key[-1])
    try:
        parse_address(f"group:{name}")
    except InvalidEvent:
        at.wrong("the name of a group has letters, digits, '_', '.', '@', '-' only")
    return GroupConfig(name=name, **values.keys(value, at, _GROUP))


# -- the keys


_NETWORK_ID = re.compile(rf"(?!\.)[A-Za-z0-9_.@-]{{1,{MAX_ID}}}")
_PERMISSIONS = values.set_of(_permission, "[mods, agents]")
_REQUIREMENTS = values.list_of(values.requirement, "['messaging>=2,<3']")

LIMIT_KEYS: dict[str, Reader] = {
    "concurrency": values.whole(1),
    "queue": values.whole(0),
    "observe_queue": values.whole(1),
    "queue_bytes": values.size(1000),
    "event_timeout": values.or_null(values.duration()),
    "start_timeout": values.duration(),
    "hang_timeout": values.duration(),
    "drain_timeout": values.duration(zero=True),
    "shutdown_timeout": values.duration(zero=True),
    "term_timeout": values.duration(zero=True),
    "unload_timeout": values.duration(),
    "memory": values.or_null(values.size(MIN_MEMORY)),
    "memory_soft": values.or_null(values.size(MIN_MEMORY)),
    "disk": values.or_null(values.size(1000)),
    "cpu": values.or_null(values.number(0.01, 10_000)),
    "cpu_seconds": values.or_null(values.whole(1)),
    "open_files": values.or_null(values.whole(16)),
    "processes": values.or_null(values.whole(1)),
    "threads": values.or_null(values.whole(1)),
    "log_rate": values.size(1000),
}
RESTART_KEYS: dict[str, Reader] = {
    "policy": values.one_of(*POLICIES),
    "max_restarts": values.whole(0),
    "window": values.duration(),
    "first_delay": values.duration(zero=True),
    "max_delay": values.duration(zero=True),
    "healthy_after": values.duration(),
    "probe_after": values.or_null(values.duration()),
}
# What is done with events when the mod dies, and what is kept of it: for the mod's author to know as well.
_KEEPING: dict[str, Reader] = {
    "delivery": values.one_of(*DELIVERIES),
    "max_attempts": values.whole(1, 100),
    "durable": values.flag,
    "checkpoint_every": values.or_null(values.duration()),
    "probation": values.or_null(values.duration(zero=True)),
    "partition_by": _partition,
    "reload": values.one_of(*RELOADS),
    "launch": values.one_of(*LAUNCHES),
}
# What it is to be run with.
_RUNNING: dict[str, Reader] = {
    "requires": _REQUIREMENTS,
    "optional": _REQUIREMENTS,
    "paths": values.list_of(values.folder, "[vendor]"),
    "python": values.or_null(values.interpreter),
}
_MOD: dict[str, Reader] = {
    "path": _mod_path,
    "name": _mod_path,
    "id": _mod_id,
    "enabled": values.flag,
    "required": values.flag,
    "config": values.plain,
    "env": values.mapping_of(values.variable, "environment variables"),
    "permissions": _PERMISSIONS,
    "speak_for": values.set_of(_speaker, "['agent:alice']"),
    "workers": values.or_null(values.whole(1, MAX_WORKERS)),
    "aliases": values.set_of(_mod_id, "[messaging_v1]"),
    "watch": values.or_null(values.flag),
    "audience": audience_values.audience,
    "limits": values.section(LimitsConfig, LIMIT_KEYS),
    "restart": values.section(RestartConfig, RESTART_KEYS),
    "version": values.or_null(values.version),
    **_RUNNING,
    **_KEEPING,
}
# Of a mod.yaml; sections as the keys that are there, for the network's file to go before.
MOD_FILE_KEYS: dict[str, Reader] = {
    "limits": lambda value, at: values.keys(value, at, LIMIT_KEYS),
    "restart": lambda value, at: values.keys(value, at, RESTART_KEYS),
    "version": values.version,
    "description": values.text,
    **_RUNNING,
    **_KEEPING,
}
_GROUP: dict[str, Reader] = {"permissions": _PERMISSIONS, "password_hash": values.or_null(values.password_hash)}
_AGENTS: dict[str, Reader] = {
    "inbox_size": values.whole(1),
    "inbox_bytes": values.size(1000),
    "inbox_policy": values.one_of(*INBOX_POLICIES),
    "expire_after": values.or_null(values.duration()),
    "max_agents": values.whole(1),
    "default_group": values.or_null(values.text),
}
_JOURNAL: dict[str, Reader] = {
    "sync": values.one_of(*SYNCS),
    "dead_letters": values.whole(0),
    "dead_letter_bytes": values.size(0),
    "dead_letter_age": values.duration(),
    "durable_events": values.whole(1),
    "durable_bytes": values.size(1000),
    "checkpoint_bytes": values.size(1000),
}
_NETWORK: dict[str, Reader] = {
    "name": values.text,
    "id": _network_id,
    "host": values.text,
    "port": values.or_null(values.whole(0, 65535)),
    "event_timeout": values.duration(),
    "polling": values.auto_or_off,
    "storage": values.or_null(values.absolute_path),
    "mod_paths": values.list_of(values.folder, "[lib]"),
    "cgroups": values.flag,
    "watch": values.flag,
    "preload": values.list_of(values.module, "[numpy]"),
}
_TOP: dict[str, Reader] = {
    "network": _network_keys,
    "mods": _mods,
    "agent_groups": values.mapping_of(_group, "groups"),
    "allowed_mods": _allowed_mods,
    "agents": values.section(AgentsConfig, _AGENTS),
    "admin": values.section(AdminConfig, {"token": values.or_null(values.token)}),
    "journal": values.section(JournalConfig, _JOURNAL),
    "logs": values.section(LogConfig, {"max_bytes": values.size(1000), "backups": values.whole(0, 1000)}),
}
