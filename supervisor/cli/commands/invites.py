"""Commands about invites: codes with which agents register."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..client.connect import connect
from ..options.arguments import age
from ..options.complete import invites
from ..settings import Settings
from ..terminal.output import Output, printable, show


def create(
    settings: Settings,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", help="The group that the invited agents join.")
    ] = None,
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="ID", help="Only for this id, or for ids like 'bot-*'; also a reserved one."),
    ] = None,
    expires: Annotated[str, typer.Option("--expires", metavar="TIME", help="How long it can be used.")] = "24h",
    uses: Annotated[int, typer.Option("--uses", metavar="N", min=1, help="How many agents it registers.")] = 1,
) -> None:
    """Make an invite and print its code, which is shown this once."""
    asked = {"group": group, "agent": agent, "expires": age(expires, "--expires"), "uses": uses}
    given = {key: value for key, value in asked.items() if value is not None}
    output = Output(as_json=settings.json)
    answer = connect(settings).post("/invites", given)
    output.document(answer, lambda: print(printable(answer["data"]["invite"])))
    output.note(_told(answer["data"]))


def ls(settings: Settings) -> None:
    """List the invites that can still be used."""
    answer = connect(settings).get("/invites")
    Output(as_json=settings.json).document(answer, lambda: _show(answer["invites"]))


def revoke(
    settings: Settings,
    invite_id: Annotated[str, typer.Argument(metavar="ID", help="What 'invite list' shows.", autocompletion=invites)],
) -> None:
    """Take an invite back."""
    from ..client.client import segment

    answer = connect(settings).request("DELETE", f"/invites/{segment(invite_id)}")
    Output(as_json=settings.json).document(answer, lambda: print(printable(str(answer["message"]))))


def _told(invite: dict[str, Any]) -> str:
    """Return what an invite is good for, as a note for people."""
    from ..render.figures import clock

    who = invite["agent"] or "any agent"
    where = f", in group {invite['agent_group']}" if invite["agent_group"] else ""
    often = "once" if invite["uses"] == 1 else f"{invite['uses']} times"
    until = clock(invite["expires_at"], date=True)
    return f"invite {invite['invite_id']}: for {who}{where}, {often}, until {until}; the agent registers with it as 'invite'"


def _show(invites: list[dict[str, Any]]) -> None:
    from ..render.invites import invites_table

    if invites:
        show(invites_table(invites))
    else:
        print("no invites")
