"""Commands about the network as a whole: check its file, run it, change it, stop it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..client.connect import connect
from ..options.arguments import age
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode, mistakes
from ..terminal.output import Output, printable, show

if TYPE_CHECKING:
    from ..client.client import Client

File = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The network file. [dim](default: as --file)[/dim]")
]


class LogFormat(StrEnum):
    """How the supervisor writes its own messages."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """How much the supervisor logs on stderr."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Host = Annotated[
    str | None, typer.Option("--host", metavar="HOST", help="Listen on this address instead of the file's.")
]
Port = Annotated[
    int | None,
    typer.Option(
        "--port", metavar="PORT", min=0, max=65535, help="Listen on this port instead of the file's; 0: a free one."
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Load only the file's mods and forget quarantines; agents and events stay.")
]
Watch = Annotated[
    bool, typer.Option("--watch", help="Reload mods when their files are saved. [dim](needs modvisor\\[watch])[/dim]")
]
AllowMixed = Annotated[
    bool,
    typer.Option("--allow-mixed", help="Join a cluster although the file or a mod's code differs from other nodes'."),
]
LogLevelOption = Annotated[
    LogLevel, typer.Option("--log-level", metavar="LEVEL", help="debug, info, warning or error: how much to log.")
]

LogFormatOption = Annotated[
    LogFormat | None,
    typer.Option(
        "--log-format",
        metavar="FORMAT",
        help="console or json, instead of the file's: how to log. [dim](json needs modvisor\\[logs])[/dim]",
    ),
]


def run(
    settings: Settings,
    path: File = None,
    host: Host = None,
    port: Port = None,
    fresh: Fresh = False,
    watch: Watch = False,
    allow_mixed: AllowMixed = False,
    log_level: LogLevelOption = LogLevel.INFO,
    log_format: LogFormatOption = None,
) -> None:
    """Run a network, or a node of one, until Ctrl-C, SIGTERM or 'modvisor stop'. SIGHUP applies a changed file."""
    from ..client.wanted import want_file

    path = path or settings.network_file
    want_file(path)
    from ..running.run import NetworkFile, run_network

    source = NetworkFile(
        path, host, port, watch=watch, log_format=log_format, node=settings.named_node, allow_mixed=allow_mixed
    )
    run_network(source, Output(as_json=settings.json), log_level, fresh=fresh)


def validate(settings: Settings, path: File = None) -> None:
    """Check a network file, the mod.yaml of its mods, and what a start needs. Lists every mistake. Starts nothing."""
    from ...config import ConfigError, load_config
    from ...sources import with_mod_files
    from ..running.preflight import check_start

    path = path or settings.network_file
    try:
        config = with_mod_files(load_config(path))
        check_start(config)
    except ConfigError as error:
        document = {"valid": False, "file": str(path), "problems": [each.to_dict() for each in error.problems]}
        raise CliError(ExitCode.BAD_CONFIG, mistakes(path, error), document) from None
    mods = [mod.mod_id for mod in config.mods if mod.enabled]
    warnings = [each.to_dict() for each in config.warnings]
    document = {"valid": True, "file": str(path), "network": config.name, "mods": mods, "problems": []}
    output = Output(as_json=settings.json)
    for each in config.warnings:
        output.note(f"warning: {each}")
    sentence = f"{path}: no mistakes; network {config.name!r} with {_count(mods)}"
    output.document({**document, "warnings": warnings}, lambda: print(printable(sentence)))


def doctor(settings: Settings, path: File = None) -> None:
    """Examine this host: what a network can use here, what enforces each limit, what to do for more. Changes nothing."""
    from ..running.checkup import check_up

    # A host can be examined without a file; a named file that is missing is a mistake.
    path = path or settings.named_file or (settings.network_file if settings.network_file.exists() else None)
    found = check_up(path)
    Output(as_json=settings.json).document(found.to_dict(), lambda: _show_checkup(found.to_dict()))
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def _show_checkup(found: dict[str, Any]) -> None:
    from ..render.doctor import WIDTH, checkup_parts

    show(*checkup_parts(found), width=WIDTH)


def _count(mods: list[str]) -> str:
    return f"{len(mods)} mod{'' if len(mods) == 1 else 's'}" + (f": {', '.join(mods)}" if mods else "")


def reconfigure(settings: Settings) -> None:
    """Have the running network apply its changed file. Only mods that changed are touched."""
    response = connect(settings).post("/reconfigure")
    Output(as_json=settings.json).document(response, lambda: print(printable(_changes(response))))


def _changes(response: dict[str, Any]) -> str:
    done = response.get("data") or {}
    parts = [f"{part} {', '.join(done[part])}" for part in ("added", "removed", "changed") if done.get(part)]
    if done.get("applied"):
        parts.append(f"applied {', '.join(done['applied'])}")
    parts += [
        f"{mod} is not loaded, {other} has its place since a swap" for mod, other in done.get("swapped", {}).items()
    ]
    if done.get("needs_restart"):
        parts.append(f"needs a restart of the network: {', '.join(done['needs_restart'])}")
    parts += [f"node {node}: {what}" for node, what in done.get("elsewhere", {}).items()]
    return "; ".join(parts) or "nothing changed"


def stop(
    settings: Settings,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the network's process has ended.")] = True,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long to wait for it: 30s, 2m …")
    ] = "30s",
) -> None:
    """Ask the running network to drain its mods and end."""
    from ..running.stopping import stop_network

    patience = age(timeout, "--timeout", zero=True)
    client = connect(settings)
    _check_here(client)
    pid = stop_network(client, wait=patience if wait else None)
    message = f"the network of {client.target} " + (f"has stopped (pid {pid})" if pid else "is stopping")
    document = {"success": True, "message": message, "data": {"stopped": pid is not None, "pid": pid}}
    Output(as_json=settings.json).document(document, lambda: print(printable(message)))


def _check_here(client: Client) -> None:
    """Refuse to stop another node than the one that was named. Without a name, one that runs here is meant."""
    target = client.target
    if target.node is None or target.storage is None or target.storage.name == target.node:
        return
    text = f"node {target.node} does not run on this machine; stop it there, or have it hand over its mods with"
    raise CliError(ExitCode.NO_NETWORK, f"{text}: modvisor node drain {target.node}")


def backup(
    settings: Settings,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where to write the copy. An older copy there is replaced.")
    ],
) -> None:
    """Copy the journal (agents, mods, checkpoints, accepted events, dead letters) to a file, with or without a network."""
    from ..at_rest.backup import back_up

    client = connect(settings)
    done = back_up(client, target, shown=not settings.json)
    output = Output(as_json=settings.json)
    if done["data"]["by"] == "command":
        output.note(f"no network is running for {client.target}; this is the journal it left")
    output.document(done, lambda: _show_backup(done))


def _show_backup(done: dict[str, Any]) -> None:
    from ..render.figures import size

    print(printable(f"{done['message']} ({size(done['data']['bytes'])})"))


def restore(
    settings: Settings,
    copy: Annotated[Path, typer.Argument(metavar="FILE", help="A copy that 'modvisor backup' made.")],
) -> None:
    """Put a copy of the journal in its place, while no network runs. The former journal stays beside it."""
    from ..at_rest import backup
    from ..client.target import audit_config

    done = backup.restore(
        connect(settings), copy, lambda: audit_config(settings, "how the audit is kept, which records a restore")
    )
    Output(as_json=settings.json).document(done, lambda: print(printable(done["message"])))
