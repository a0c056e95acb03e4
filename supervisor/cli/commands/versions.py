"""Commands about versions of a mod: audiences, promotion and rollback."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..client.connect import connect
from ..options.complete import loaded_mods
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable, show

Mod = Annotated[str, typer.Argument(metavar="MOD", help="The mod's id or path.", autocompletion=loaded_mods)]
Family = Annotated[
    str,
    typer.Argument(
        metavar="MOD",
        help="The name that the versions share (wiki), or the id or path of one.",
        autocompletion=loaded_mods,
    ),
]
Percent = Annotated[
    float | None,
    typer.Option("--percent", metavar="N", min=0, max=100, help="This share of the sources, always the same sources."),
]
Groups = Annotated[
    list[str] | None, typer.Option("--group", metavar="NAME", help="The agents of this group; may be repeated.")
]
Agents = Annotated[
    list[str] | None,
    typer.Option("--agent", metavar="ID", help="This agent, or another source (mod:ID); may be repeated."),
]


def audience(
    settings: Settings,
    mod: Family,
    percent: Percent = None,
    group: Groups = None,
    agent: Agents = None,
    only: Annotated[bool, typer.Option("--only", help="Remove from the audience what is not given here.")] = False,
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Remove the audience: the version gets everybody's events.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Show the versions side by side. [dim](without another option, too)[/dim]")
    ] = False,
) -> None:
    """Set whose events a version of a mod gets, from the next event on; or show who has which version."""
    from ..client.client import segment

    given = audience_of(percent, group, agent)
    if everyone and (given or only):
        raise CliError(
            ExitCode.USAGE, "--everyone stands alone: it takes away what --percent, --group and --agent give"
        )
    if only:
        given = {"percent": 0, "groups": [], "agents": [], **given}
    if everyone:
        given = {"everyone": True}
    client, path = connect(settings), f"/mods/{segment(mod)}/audience"
    changed = client.post(path, given) if given else None
    _report(settings, client.get(path) if show or changed is None else changed, side_by_side=show or changed is None)


def audience_of(percent: float | None, groups: list[str] | None, agents: list[str] | None) -> dict[str, Any]:
    """Return the given parts of an audience, as the network file writes them."""
    given = {"percent": percent, "groups": groups or None, "agents": agents or None}
    return {key: value for key, value in given.items() if value is not None}


def promote(settings: Settings, mod: Mod) -> None:
    """Give a version to everybody at once. The other versions stay loaded, without events, for a rollback."""
    from ..client.client import segment

    _report(settings, connect(settings).post(f"/mods/{segment(mod)}/promote", {}))


def rollback(settings: Settings, mod: Family) -> None:
    """Undo the last promotion: divide the sources as before."""
    from ..client.client import segment

    _report(settings, connect(settings).post(f"/mods/{segment(mod)}/rollback", {}))


def _report(settings: Settings, response: dict[str, Any], *, side_by_side: bool = False) -> None:
    def tell() -> None:
        from ..render.versions import versions_table

        print(printable(str(response.get("message"))))
        if side_by_side:
            show(versions_table(response["data"]["versions"]))

    Output(as_json=settings.json).document(response, tell)
