"""The configuration of one mod: frozen dataclasses whose fields are the keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..values.basic import (
    command,
    duration,
    flag,
    folder,
    interpreter,
    list_of,
    mapping_of,
    number,
    one_of,
    or_null,
    plain,
    set_of,
    size,
    whole,
)
from ..values.env import EnvValue, variable
from ..values.keys import about, key, section
from ..values.names import mod_id, mod_path, partition, permission_set, requirement, speaker, version
from ..values.versions import Requirement
from .audience import Audience
from .audience_reader import audience
from .placement import PlacementConfig, placement_section
from .sandbox import FALLBACKS, SandboxConfig, sandbox

POLICIES = ("permanent", "transient", "temporary")
AT_LEAST_ONCE, AT_MOST_ONCE = DELIVERIES = ("at_least_once", "at_most_once")
SIDE_BY_SIDE, STOP_FIRST = RELOADS = ("side_by_side", "stop_first")
BESIDE, ALONE = SUSPECTS = ("beside", "alone")
FORK, EXEC = LAUNCHES = ("fork", "exec")

MAX_WORKERS = 256  # of one mod, on one machine
MIN_MEMORY = 1_000_000  # no Python starts with less: a value of 512 means '512MB'

_requirements = list_of(requirement, "['messaging>=2,<3']")
_ids = set_of(mod_id, "[messaging_v1]")
_maybe_memory = or_null(size(MIN_MEMORY))
_maybe_count = or_null(whole(1))
_time = duration()
_maybe_time = or_null(_time)
_time_or_0 = duration(zero=True)


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one mod may use. Times in seconds, memory in bytes; None is no limit of its own."""

    concurrency: int = key(
        64, whole(1), "events that the mod handles at once; with `1` they are answered in order, too"
    )
    queue: int = key(
        1000,
        whole(0),
        "events that wait for a free slot, or for a process that is being replaced; when the queue is full, "
        "the mod counts as overloaded, and the source that has most events in it is refused first",
    )
    queue_bytes: int = key(
        64 * 1024 * 1024,
        size(1000),
        "how large the waiting events may be together; the copies for observers have the same room again",
    )
    observe_queue: int = key(10_000, whole(1), "copies of events that wait for the mod's observers")
    event_timeout: float | None = key(
        None, _maybe_time, "how long an event may take; null: `event_timeout` of the network"
    )
    start_timeout: float = key(30.0, _time, "from the start of the process until the mod serves")
    hang_timeout: float = key(
        10.0, _time, "how long the mod's event loop may be silent before the mod counts as hung and is restarted"
    )
    drain_timeout: float = key(5.0, _time_or_0, "when the mod ends: how long the events in flight may take to finish")
    shutdown_timeout: float = key(
        3.0, _time_or_0, "after the drain: for the mod's `shutdown()` and the end of its process"
    )
    term_timeout: float = key(1.5, _time_or_0, "after that: from SIGTERM to SIGKILL")
    unload_timeout: float = key(10.0, _time, "for drain, shutdown and SIGTERM together")
    memory: int | None = key(
        None,
        _maybe_memory,
        "of the mod's processes together; above it they are killed. The data of each process is limited to it, too "
        "(`RLIMIT_DATA`), so most allocations fail with a `MemoryError` first. null: no limit",
    )
    memory_soft: int | None = key(
        None,
        _maybe_memory,
        "of the mod's processes together; above it a fresh process replaces the mod, and no event is lost. Less than "
        "`memory`. null: no limit",
    )
    disk: int | None = key(
        None,
        or_null(size(1000)),
        "of all files in the mod's storage folder together; above it the mod is ended. No single file grows beyond it "
        "(`RLIMIT_FSIZE`). null: no limit",
    )
    cpu: float | None = key(
        None,
        or_null(number(0.01, 10_000)),
        "processor cores; while a mod uses more, it gets only what other mods leave over. null: no limit",
    )
    cpu_yield: float | None = key(
        0.8,
        or_null(number(0.01, 10_000)),
        "processor cores; a mod that uses more while the machine has more to run than cores has a third of the usual "
        "share, from a fifth of a second on and until it uses half of it. null: never",
    )
    cpu_seconds: int | None = key(
        None, _maybe_count, "processor time of one process over its whole life (`RLIMIT_CPU`); null: no limit"
    )
    open_files: int | None = key(
        1024,
        or_null(whole(16)),
        "open files and sockets of one process (`RLIMIT_NOFILE`); null: the limit of the network itself",
    )
    processes: int | None = key(
        100,
        _maybe_count,
        "the mod's process and all processes that it started; above it they are killed. null: no limit",
    )
    threads: int | None = key(
        500, _maybe_count, "of the mod's processes together; above it they are killed. null: no limit"
    )
    log_rate: int = key(256 * 1024, size(1000), "output read per second over time; a mod that prints more waits")


@dataclass(frozen=True, slots=True)
class RestartConfig:
    """When a mod that ended is started again; `modvisor.supervisor.lifecycle.restart_policy` decides."""

    policy: str = key(
        "permanent",
        one_of(*POLICIES),
        "`permanent`: always restart; `transient`: only if the process did not end cleanly; `temporary`: never",
    )
    max_restarts: int = key(5, whole(0), "how many restarts within the window are allowed; one more means quarantine")
    window: float = key(60.0, _time, "how far back restarts count")
    first_delay: float = key(
        0.1, _time_or_0, "the pause before the first restart; it doubles with each further restart"
    )
    max_delay: float = key(30.0, _time_or_0, "the longest pause; at least `first_delay`")
    healthy_after: float = key(
        60.0, _time, "a process that ran this long was healthy: the next pause is `first_delay` again"
    )
    probe_after: float | None = key(
        None,
        _maybe_time,
        "how long after the start of its quarantine a mod is tried once more; null: only when somebody asks",
    )


@dataclass(frozen=True, slots=True)
class PlaceOf:
    """The place of a mod of the network file, which a swap gave to another mod.

    Attributes:
        mod_id: of the file's mod.
        entry: hash of its entry at the swap; None if that is not known.
    """

    mod_id: str
    entry: str | None = None


@dataclass(frozen=True, slots=True)
class ModConfig:
    """One mod: what to load, under which id, with what rights and limits.

    The fields without a reader are no keys of the file:

    Attributes:
        replica: which of the mod's workers this is the config of; None: the whole mod.
        dependency: whether it is loaded only because another mod requires it.
        instead_of: whose place in the network file it has, since a swap.
        from_file: whether the network file names the mod; then the file rules over the journal.
        spec: the entry of a mod that the file does not name, as it was asked for.
        given: the keys that were given, such as ``durable`` and ``limits.memory``. A mod.yaml does
            not change these.
        written: the entry of the network file as it is written there.
        declared: the version that its mod.yaml says.
        config_schema: the JSON Schema of ``config`` that its mod.yaml says.
        asked: the config before a mod.yaml or its worker completed it.
        host: which framework's mod it is, as its worker says; None: one of modvisor, or not known yet.
    """

    path: str = field(metadata=about(mod_path, "what to load"))
    mod_id: str = field(
        metadata=about(
            mod_id,
            "what the mod is called in this network, unique in it; from `pkg.mods.wiki` it is `wiki`",
            name="id",
            shown="from the path",
        )
    )
    enabled: bool = key(True, flag, "false: the entry is checked, but the mod is not loaded")
    required: bool = key(
        False,
        flag,
        "true: the network does not start without the mod; false: it starts, and the mod stays `failed`",
    )
    config: dict[str, Any] = field(
        default_factory=dict,
        metadata=about(
            plain, "handed to the mod as `self.config`: any plain data whose keys are text; put dates in quotes"
        ),
    )
    env: dict[str, EnvValue] = field(
        default_factory=dict,
        metadata=about(
            mapping_of(variable, "environment variables"), "environment variables of the mod's process, see below"
        ),
    )
    permissions: frozenset[str] = key(
        frozenset(),
        permission_set,
        "which `system.*` events the mod may send: `mods`, `agents`, `channels`; without this key, a mod of OpenAgents "
        "has `channels`",
    )
    speak_for: frozenset[str] = key(
        frozenset(),
        set_of(speaker, "['agent:alice']"),
        "other sources in whose name the mod may send events: `agent:alice`, `mod:wiki`, every agent (`agent:*`), "
        "every mod (`mod:*`), or everybody (`*`); without this key, a mod of OpenAgents may speak for every agent",
    )
    limits: LimitsConfig = key(LimitsConfig(), section(LimitsConfig), "see [limits](#modslimits)", in_mod_file=True)
    restart: RestartConfig = key(
        RestartConfig(), section(RestartConfig), "see [restart](#modsrestart)", in_mod_file=True
    )
    delivery: str = key(
        AT_LEAST_ONCE,
        one_of(*DELIVERIES),
        "events that were being handled when the mod's process died: `at_least_once` gives them to the next process, "
        "and [finds the one that kills](events.md#when-a-process-dies); `at_most_once` fails them",
        in_mod_file=True,
    )
    max_attempts: int = key(
        2,
        whole(1, 100),
        "how many processes an event may kill before it becomes a [dead letter](#journal); deaths that it is not to "
        "blame for [do not count](events.md#when-a-process-dies)",
        in_mod_file=True,
    )
    suspects: str = key(
        BESIDE,
        one_of(*SUSPECTS),
        "where an event is tried again that may have killed the mod's process: `beside` tries it in a process of its "
        "own, while the mod serves, [if the mod permits that](events.md#trial-processes); `alone` lets other events "
        "wait meanwhile",
        in_mod_file=True,
    )
    durable: bool = key(
        False,
        flag,
        "true: an event is on disk before the mod sees it, and is kept until it is answered, even when the whole "
        "network is killed",
        in_mod_file=True,
    )
    checkpoint_every: float | None = key(
        None,
        _maybe_time,
        "how often the mod's `get_state()` is saved in case of a crash; null: only when the mod calls "
        "`context.checkpoint`",
        in_mod_file=True,
    )
    workers: int | None = key(
        None,
        or_null(whole(1, MAX_WORKERS)),
        "how many processes share the mod's events. Each has its own state, storage (`context.storage_path`) and "
        "restarts. null: one process has all events",
    )
    partition_by: str | None = key(
        None,
        or_null(partition),
        "the key of an event: `source` (its sender) or a path such as `payload.order.id` (the value there; an event "
        "without one has its source as the key). The mod handles one event of a key at a time, in order, and events "
        "of other keys meanwhile. Several workers share the keys: all events of a key go to the same worker. "
        "`least_loaded`: no keys, an event goes to the worker with the fewest. null: several workers share the events "
        "by source, and events of one source may overlap",
        in_mod_file=True,
    )
    overlap: bool = key(
        False,
        flag,
        "true: events of one key may overlap; `partition_by` only shares them among the workers",
        in_mod_file=True,
    )
    replica: int | None = None
    reload: str = key(
        SIDE_BY_SIDE,
        one_of(*RELOADS),
        "`side_by_side` starts the new process beside the old one. `stop_first` ends the old process before, for a mod "
        "that cannot run twice: its events wait meanwhile, and if the new process fails, the old version is started "
        "again",
        in_mod_file=True,
    )
    launch: str = key(
        FORK,
        one_of(*LAUNCHES),
        "how the process begins: `fork` from a process that has imported all that a worker needs (Linux, where "
        "`python` is null), or `exec`: a fresh interpreter each time, for a mod that cannot be forked",
        in_mod_file=True,
    )
    probation: float | None = key(
        10.0,
        or_null(_time_or_0),
        "how long after a reload or swap a crash, or a jump in the share of failed events, brings the old version "
        "back, with its state; null: the new version stays",
        in_mod_file=True,
    )
    aliases: frozenset[str] = key(
        frozenset(),
        _ids,
        "other ids by which events (`mod:messaging_v1`) and commands may call the mod; a swap can leave one",
    )
    watch: bool | None = key(
        None,
        or_null(flag),
        "true: the mod is reloaded when [its files are saved](#saved-files); false: never; null: as the "
        "[network](#network) says",
    )
    version: str | None = key(
        None,
        or_null(version),
        "which version of the mod, see [versions](#versions-of-a-mod); null: the version in its folder",
    )
    paths: tuple[Path, ...] = key(
        (),
        list_of(folder, "[vendor]"),
        "folders from which the mod imports before all others; they must exist",
        in_mod_file=True,
    )
    python: Path | None = key(
        None,
        or_null(interpreter),
        "the Python that the mod runs under: an interpreter (3.11 or newer), a virtual environment, or a command on "
        "`PATH`; null: the network's own",
        in_mod_file=True,
    )
    command: tuple[str, ...] | None = key(
        None,
        or_null(command),
        "a worker in another language: the program and its arguments, such as `[./wiki-worker]`; it speaks "
        "[the protocol](protocol.md). null: the mod is Python",
        in_mod_file=True,
    )
    sandbox: SandboxConfig | None = key(
        None,
        or_null(sandbox),
        "what the mod's processes may reach, see [sandbox](#modssandbox); null: as the [network](#network) says",
    )
    sandbox_fallback: str | None = key(
        None,
        or_null(one_of(*FALLBACKS)),
        "what happens if this host cannot enforce the `sandbox`: `fail`: the mod is not loaded; `warn`: it is, with what "
        "can be enforced; null: as the [network](#network) says",
    )
    placement: PlacementConfig = key(
        PlacementConfig(), placement_section, "on which nodes of a cluster it runs, see [placement](#modsplacement)"
    )
    requires: tuple[Requirement, ...] = key(
        (),
        _requirements,
        'mods that the mod needs, see [below](#what-a-mod-requires): `["messaging>=2,<3"]`',
        in_mod_file=True,
    )
    optional: tuple[Requirement, ...] = key(
        (), _requirements, "mods that the mod uses when they are loaded", in_mod_file=True
    )
    dependency: bool = field(default=False, compare=False)
    instead_of: PlaceOf | None = field(default=None, compare=False)
    from_file: bool = True
    # Not compared: a changed audience needs no new process.
    audience: Audience | None = field(
        default=None,
        compare=False,
        metadata=about(audience, "whose events the mod gets, see [audience](#modsaudience)", shown="everybody"),
    )
    spec: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    given: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    written: Any = field(default=None, compare=False, repr=False)
    declared: str | None = field(default=None, compare=False, repr=False)
    config_schema: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    asked: ModConfig | None = field(default=None, compare=False, repr=False)
    host: str | None = None

    @property
    def name(self) -> str:
        """The mod's id, also for each of its workers."""
        return self.mod_id.partition("#")[0]

    @property
    def as_asked(self) -> ModConfig:
        """The config without what a mod.yaml added."""
        return self.asked or self
