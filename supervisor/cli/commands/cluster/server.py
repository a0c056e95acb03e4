"""``modvisor cluster up`` and ``down``: a NATS server for trying a cluster out on one machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from .....ipc.errors import ModvisorError
from ...client.target import network_storage
from ...client.wanted import want_file
from ...settings import Settings
from ...terminal.exits import CliError, ExitCode
from ...terminal.output import Output, printable


def up(
    settings: Settings,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", metavar="PORT", min=1, max=65535, help="The port. [dim](default: a free one, kept)[/dim]"
        ),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground/--detach", help="Stay in this terminal, or go on in the background.")
    ] = False,
) -> None:
    """Start a NATS server to try a cluster out on this machine. Nodes of the same network file find it."""
    from ....cluster.link import embedded

    folder = _folder(settings.network_file)
    with _explained():
        if foreground:
            command, server, lock = embedded.prepare(folder, host, port)
            os.set_inheritable(lock, True)
            embedded.keep(folder, replace(server, pid=os.getpid()))
            os.execv(command[0], command)
        server = embedded.started(folder, host, port)
    file = settings.network_file
    document = {"success": True, "pid": server.pid, "url": server.url, "storage": str(folder), "file": str(file)}
    Output(as_json=settings.json).document(document, lambda: print(printable(_text(document))))


def _text(found: dict[str, Any]) -> str:
    file = found["file"]
    named = "" if file == "network.yaml" else f" {file}"
    lines = [
        f"NATS server for {file} (pid {found['pid']})",
        f"  listens  {found['url']}",
        f"  storage  {found['storage']}",
    ]
    if not _has_cluster(Path(file)):
        lines += [f"{file} has no cluster yet; add this line:", "  cluster: {}"]
    return "\n".join(
        [
            *lines,
            "each node in a terminal of its own:",
            f"  modvisor run{named} --node a --port 8701",
            f"  modvisor run{named} --node b --port 8702",
            "'modvisor cluster down' ends the server",
        ]
    )


def _has_cluster(file: Path) -> bool:
    from ....config import read_data

    data, _ = read_data(file)
    return isinstance(data, dict) and data.get("cluster") is not None


def down(settings: Settings) -> None:
    """End the NATS server that 'modvisor cluster up' started. What it keeps stays."""
    from ....cluster.link import embedded

    folder = _folder(settings.network_file)
    with _explained():
        pid = embedded.stopped(folder)
    if pid is None:
        text = f"no NATS server runs that 'modvisor cluster up' started for {settings.network_file}"
        raise CliError(ExitCode.NO_NETWORK, text)
    message = f"the NATS server of {settings.network_file} has stopped (pid {pid})"
    document = {"success": True, "message": message, "data": {"pid": pid}}
    Output(as_json=settings.json).document(document, lambda: print(printable(message)))


def _folder(file: Path) -> Path:
    from ....cluster.link import embedded

    want_file(file)
    return embedded.folder_of(network_storage(file))


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ModvisorError as error:
        raise CliError(ExitCode.START_FAILED, str(error)) from None
