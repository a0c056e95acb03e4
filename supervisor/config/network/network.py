"""The configuration of a whole network: frozen dataclasses whose fields are the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ....ipc.address import parse_address
from ....ipc.errors import InvalidEvent
from ...runtime import LOOPS
from ..mods.entry import list_of_mods
from ..mods.mod import ModConfig
from ..mods.sandbox import FAIL, FALLBACKS, SandboxConfig, sandbox, uid_range
from ..redaction import redacted_keys
from ..sections.agents import AgentsConfig, GroupConfig
from ..sections.audit import AuditConfig, audit_section
from ..sections.cluster import ClusterConfig, cluster_section
from ..sections.dashboard import DashboardConfig
from ..sections.http import HttpConfig
from ..sections.metrics import MetricsConfig
from ..sections.relay import RelayConfig
from ..sections.tls import TlsConfig, tls_section
from ..sections.tracing import TracingConfig
from ..values.basic import (
    AUTO,
    absolute_path,
    auto_or_off,
    duration,
    flag,
    folder,
    list_of,
    mapping_of,
    module,
    one_of,
    or_null,
    read_keys,
    size,
    text,
    whole,
)
from ..values.env import EnvValue, token
from ..values.keys import about, key, keys_of, readers_of, schema_of, section
from ..values.names import network_id
from ..values.reader import Location, Reader, reader
from ..values.schema_parts import of_type
from ..yaml.source import Problem

SYNCS = ("normal", "full")
CONSOLE, JSON = LOG_FORMATS = ("console", "json")


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Access for the operator."""

    token: EnvValue | None = key(
        None,
        or_null(token),
        "what the operator's requests must carry; `from` works as in [env](#modsenvname); must not be empty. null: "
        "no token",
    )
    remote: bool = key(
        False,
        flag,
        "true: the operator may come from other machines, over TLS and with a token; false: from this machine only",
    )


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The mods' log files. Sizes in bytes."""

    max_bytes: int = key(1_000_000, size(1000), "a file that grows beyond it is put aside, and a new one begins")
    backups: int = key(3, whole(0, 1000), "how many files that were put aside are kept")


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """What outlives the supervisor, and how much of it. Sizes in bytes, ages in seconds."""

    sync: str = key(
        "normal",
        one_of(*SYNCS),
        "`normal`: what was accepted survives the end of the process, however it ends; `full`: also a power failure",
    )
    dead_letters: int = key(10_000, whole(0), "how many are kept; the oldest are deleted first")
    dead_letter_bytes: int = key(128 * 1024 * 1024, size(0), "how large they may be together")
    dead_letter_age: float = key(30 * 86400.0, duration(), "how long they are kept")
    durable_events: int = key(
        100_000, whole(1), "accepted events without an answer; further events are refused with `storage_full`"
    )
    durable_bytes: int = key(512 * 1024 * 1024, size(1000), "how large these events may be together")
    checkpoint_bytes: int = key(16 * 1024 * 1024, size(1000), "the largest checkpoint of a mod")
    file_bytes: int = key(8 * 1024 * 1024, size(1000), "the largest file that a mod keeps with `context.files`")
    mod_files_bytes: int = key(64 * 1024 * 1024, size(1000), "how large these files of one mod may be together")
    mod_files: int = key(1000, whole(1), "how many of these files one mod may have")
    crash_reports: int = key(20, whole(0), "how many are kept of each mod; the oldest are deleted first")
    crash_report_bytes: int = key(16 * 1024 * 1024, size(0), "how large the crash reports of all mods may be together")
    crash_report_age: float = key(30 * 86400.0, duration(), "how long crash reports are kept")
    stats_every: float | None = key(
        60.0,
        or_null(duration()),
        "how often the network's figures are kept for `modvisor stats --last`, apart from its end; null: never",
    )
    answer_bytes: int = key(
        16 * 1024 * 1024,
        size(0),
        "the answers of durable mods that are remembered across a restart, so that an event that is sent again is not "
        "handled twice; the oldest are forgotten first",
    )
    answer_age: float = key(3600.0, duration(), "how long these answers are remembered")


def _read_group(value: Any, at: Location) -> Any:
    name = str(at.key[-1])
    try:
        parse_address(f"group:{name}")
    except InvalidEvent:
        at.wrong("expected a group name of letters, digits, '_', '.', '@', '-'")
    return GroupConfig(name=name, **read_keys(value, at, readers_of(GroupConfig)))


_group = Reader("mapping", _read_group, schema=lambda: schema_of(keys_of(GroupConfig)))


@reader("list of patterns", "array", items=of_type("string"))
def _allowed_mods(value: Any, at: Location) -> Any:
    if value is None:  # every entry is commented out; that hardly means to allow everything
        return at.wrong("expected a list; write [] to allow no mod, or remove the key to allow every mod")
    return list_of(text, "['modvisor.mods.*', './*']")(value, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """A whole network. Paths are absolute; ``file`` is None for a network made of plain data.

    Attributes:
        warnings: what in the file is no mistake, and may not be what was meant.
        lines: the lines of the upper keys, such as ``mods[1].requires``; empty without a file.
    """

    name: str = field(metadata=about(text, "what people call the network", section="network"))
    network_id: str = field(
        metadata=about(
            network_id,
            "what programs call it; from the name `My Team!` it is `my-team`",
            name="id",
            section="network",
            shown="from the name",
        )
    )
    base_dir: Path
    file: Path | None = None
    warnings: tuple[Problem, ...] = field(default=(), compare=False)
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)
    host: str = key(
        "127.0.0.1",
        text,
        "the address to listen on; `0.0.0.0` is every address of the machine. An address that other machines can reach "
        "needs `tls`, or `insecure: true`",
        section="network",
    )
    tls: TlsConfig | None = key(
        None, tls_section, "the certificate of the HTTP port, see [tls](#networktls)", section="network"
    )
    insecure: bool = key(
        False,
        flag,
        "true: other machines may reach the network without TLS, for a trusted network or a container behind a proxy; "
        "every start warns of it",
        section="network",
    )
    port: int | None = key(
        None,
        or_null(whole(0, 65535)),
        "the HTTP port; `0` picks a free one; null: no HTTP, the network is used from Python only",
        section="network",
    )
    event_timeout: float = key(
        30.0,
        duration(),
        "how long the sender of an event waits, unless the event or the mod says otherwise",
        section="network",
    )
    polling: str = key(
        AUTO,
        auto_or_off,
        "`auto`: network and mods stay awake for up to 100 µs when an answer or the next event is due, which makes a "
        "round trip several times shorter. They do it only while it pays and no other process wants the core. "
        "`off`: they sleep at once",
        section="network",
    )
    event_loop: str = key(
        AUTO,
        one_of(*LOOPS),
        "what `modvisor run` runs on. `auto`: uvloop where it can be imported, else asyncio's own loop, which takes "
        "twice the CPU. `uvloop`: no start without it. A Python program that runs a network chooses its own loop",
        section="network",
    )
    log_format: str = key(
        CONSOLE,
        one_of(*LOG_FORMATS),
        "how `modvisor run` writes its own messages to stderr: `console`: lines for people; `json`: an object on each "
        "line, see [metrics.md](metrics.md#logs)",
        section="network",
    )
    scheduling: str = key(
        AUTO,
        auto_or_off,
        "`auto`: `modvisor run` asks the kernel for short turns on the processor (Linux 6.12), for itself and all mods, "
        "so that events do not wait behind what computes, and for three times the usual share for itself where it may "
        "(root or CAP_SYS_NICE). `off`: it runs as any program",
        section="network",
    )
    storage: Path = field(
        metadata=about(
            or_null(absolute_path),
            "the folder for all that must outlive the network: agents' secrets, mods' data, logs; one network per "
            "folder. null: `.modvisor` beside the network file",
            section="network",
            shown="`.modvisor`",
        )
    )
    mod_paths: tuple[Path, ...] = key(
        (),
        list_of(folder, "[lib]"),
        "more folders in which the mods' Python finds packages; they must exist",
        section="network",
    )
    watch: bool = key(
        False,
        flag,
        "true: every mod is reloaded when its files are saved, see [Saved files](#saved-files)",
        section="network",
    )
    cgroups: bool = key(
        True,
        flag,
        "true: limit mods by cgroup v2 where the network has a subtree of its own (systemd: `Delegate=yes`); "
        "false: never",
        section="network",
    )
    preload: tuple[str, ...] = key(
        (),
        list_of(module, "[numpy]"),
        "libraries that many mods import, see below; never a mod's own code. Without this key, what the mods of "
        "OpenAgents in the file need, see [openagents.md](openagents.md#mods)",
        section="network",
    )
    preload_timeout: float = key(
        60.0, duration(), "how long the import of one module of `preload` may take", section="network"
    )
    spares: int = key(
        0,
        whole(0, 64),
        "worker processes that are started ahead and wait for a mod, see [Spare workers](#spare-workers)",
        section="network",
    )
    sandbox: SandboxConfig | None = key(
        None,
        or_null(sandbox),
        "what the processes of mods may reach that say nothing of it, see [sandbox](#modssandbox). null: `default`, and "
        "what this host cannot enforce of it is warned of",
        section="network",
    )
    sandbox_fallback: str = key(
        FAIL,
        one_of(*FALLBACKS),
        "what happens if this host cannot enforce a `sandbox` that the network or the mod asks for: `fail`: the mod is "
        "not loaded; `warn`: it is, with what can be enforced",
        section="network",
    )
    sandbox_uids: tuple[int, int] = key(
        (1_500_000_000, 10_000),
        uid_range,
        "the first of the user ids that mods with `user: own` get if the network runs as root, and how many; no other "
        "program may use them",
        section="network",
    )
    mods: tuple[ModConfig, ...] = key(
        (),
        list_of_mods,
        "the mods to run, in the order in which they are asked about an event, see [mods](#mods)",
    )
    agent_groups: dict[str, GroupConfig] = field(
        default_factory=dict,
        metadata=about(
            mapping_of(_group, "groups"),
            "groups that agents join with a password, see [agent_groups](#agent_groupsname)",
        ),
    )
    allowed_mods: tuple[str, ...] | None = key(
        None, _allowed_mods, "which mod paths may be loaded, now and later", shown="all"
    )
    redact: tuple[str, ...] = key(
        (),
        redacted_keys,
        "keys whose values are masked, besides those of secrets, see [redact](#redact)",
    )
    agents: AgentsConfig = key(
        AgentsConfig(), section(AgentsConfig), "limits that hold for every agent, see [agents](#agents)"
    )
    http: HttpConfig = key(
        HttpConfig(), section(HttpConfig), "what the HTTP server takes from strangers, see [http](#http)"
    )
    relay: RelayConfig = key(
        RelayConfig(), section(RelayConfig), "how mods in a cell reach their hosts, see [relay](#relay)"
    )
    admin: AdminConfig = key(AdminConfig(), section(AdminConfig), "access for the operator, see [admin](#admin)")
    dashboard: DashboardConfig = key(
        DashboardConfig(), section(DashboardConfig), "the operator's page, see [dashboard](#dashboard)"
    )
    journal: JournalConfig = key(
        JournalConfig(), section(JournalConfig), "what outlives the network's process, see [journal](#journal)"
    )
    audit: AuditConfig = key(AuditConfig(), audit_section, "the record of who did what, see [audit](#audit)")
    metrics: MetricsConfig = key(
        MetricsConfig(), section(MetricsConfig), "the figures that Prometheus reads, see [metrics](#metrics)"
    )
    tracing: TracingConfig = key(
        TracingConfig(), section(TracingConfig), "spans for OpenTelemetry, see [tracing](#tracing)"
    )
    cluster: ClusterConfig | None = key(
        None,
        cluster_section,
        "one network on several machines, see [cluster](#cluster). null: on this one alone; `{}`: with every default",
    )
    log: LogConfig = key(LogConfig(), section(LogConfig), "the mods' log files, see [logs](#logs)", name="logs")

    @property
    def node(self) -> str | None:
        """The name of this node; None without a cluster."""
        return None if self.cluster is None else self.cluster.node
