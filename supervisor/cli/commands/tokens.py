"""Commands about operators' tokens: what `--url` needs, one for each person or program, with a scope and an end."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..client.connect import connect
from ..options.arguments import age
from ..options.complete import tokens
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable, show

Name = Annotated[str, typer.Argument(metavar="NAME", help="What people call it, such as ci or alice.")]


def create(
    settings: Settings,
    name: Name,
    scope: Annotated[
        str,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="read: see everything but payloads; operate: also reload, restart, unload, divide and send events, replay and "
            "remove dead letters; admin: everything.",
        ),
    ],
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires", metavar="TIME", help="How long it can be used, such as 30d or 12h. Without it: for ever."
        ),
    ] = None,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Let it read what events carry (read_payloads); admin may in any case.")
    ] = False,
) -> None:
    """Make a token and print it, this once."""
    lasts = 0.0 if expires is None else age(expires, "--expires")
    asked = {"name": name, "scope": scope, "expires": lasts, **({"payloads": True} if payloads else {})}
    output = Output(as_json=settings.json)
    answer = _ask(
        settings,
        lambda client: client.post("/tokens", asked),
        lambda at: at.create(name, scope, lasts or None, payloads=payloads),
    )
    output.document(answer, lambda: print(printable(answer["data"]["token"])))
    output.note(_told(answer["data"]))


def ls(settings: Settings) -> None:
    """List the tokens, without their secrets."""
    answer = _ask(settings, lambda client: client.get("/tokens"), lambda at: {"tokens": at.list()})
    Output(as_json=settings.json).document(answer, lambda: _show(answer["tokens"]))


def revoke(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What 'token list' shows.", autocompletion=tokens)],
) -> None:
    """Revoke a token: it is of no use from now on."""
    from ..client.client import segment

    path = f"/tokens/{segment(name)}"
    answer = _ask(settings, lambda client: client.request("DELETE", path), lambda at: at.revoke(name))
    Output(as_json=settings.json).document(answer, lambda: print(printable(str(answer["message"]))))


def _ask(settings: Settings, online: Any, offline: Any) -> Any:
    """Ask the network; if none runs, work on the state that the last one left, under its lock."""
    client = connect(settings)
    try:
        return online(client)
    except CliError as error:
        storage = client.target.storage
        if error.code is not ExitCode.NO_NETWORK or storage is None:
            raise
        from ..at_rest.tokens import tokens_at_rest

        return tokens_at_rest(settings, storage, error, offline)


def _told(token: dict[str, Any]) -> str:
    from ..render.figures import clock
    from ..render.tokens import scope_of

    until = "for ever" if token["expires_at"] is None else f"until {clock(token['expires_at'], date=True)}"
    return f"token {token['name']}: may {scope_of(token)}, {until}; give it to 'modvisor --url' as MODVISOR_TOKEN"


def _show(tokens: list[dict[str, Any]]) -> None:
    from ..render.tokens import tokens_table

    if tokens:
        show(tokens_table(tokens))
    else:
        print("no tokens")
