"""``modvisor node`` and ``modvisor cluster status``: the nodes of a cluster, and what they are about."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ...client.connect import connect
from ...settings import Settings
from ...terminal.exits import ExitCode
from ...terminal.output import Output, printable, show

Node = Annotated[str, typer.Argument(metavar="NODE", help="The node's name, as 'modvisor node ls' shows it.")]


def ls(settings: Settings) -> None:
    """List the nodes: health, load, versions, and which mods each runs."""
    found = connect(settings).get("/cluster")
    Output(as_json=settings.json).document(found, lambda: _show_nodes(found))


def _show_nodes(found: dict[str, Any]) -> None:
    from ...render.nodes import nodes_table, silent

    show(nodes_table(found["nodes"]))
    for text in silent(found):
        print(printable(text))


def drain(settings: Settings, name: Node) -> None:
    """Have a node hand over its mods to other nodes without losing an event, so that it can be stopped."""
    from ...client.client import segment

    response = connect(settings).post(f"/nodes/{segment(name)}/drain")
    Output(as_json=settings.json).document(response, lambda: print(printable(str(response.get("message")))))


def status(settings: Settings) -> None:
    """Tell whether the cluster holds together.

    Exit code 0: it does; 1: a node is silent, a copy of what is kept is behind, or the servers are away.
    """
    from ...render.nodes import behind, cluster_text, silent

    found = connect(settings).get("/cluster")
    is_well = found["is_connected"] and not (silent(found) or found.get("unplaced") or behind(found))
    document = {"success": is_well, **found}
    Output(as_json=settings.json).document(document, lambda: print(printable(cluster_text(found))))
    if not is_well:
        raise typer.Exit(ExitCode.FAILED)
