"""The command that opens the dashboard in a browser, logged in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..client.connect import connect
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output, printable

SCOPES = ("read", "operate", "admin")


def open_page(
    settings: Settings,
    scope: Annotated[
        str, typer.Option("--scope", metavar="SCOPE", help="What the page may do: read, operate or admin.")
    ] = "admin",
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Show what events carry, too; with admin it is shown in any case.")
    ] = False,
    only_print: Annotated[bool, typer.Option("--print", help="Print the link, and open no browser.")] = False,
) -> None:
    """Open the dashboard in a browser, by a link that logs in once."""
    if scope not in SCOPES:
        raise CliError(ExitCode.USAGE, f"--scope: expected one of {', '.join(SCOPES)}, got {scope!r}")
    output = Output(as_json=settings.json)
    client = connect(settings)
    answer = client.post("/links", {"scope": scope, "payloads": payloads})
    data = answer["data"]
    if client.target.url is not None:  # the network does not know under which name it is reached from here
        data["url"] = f"{client.target.url.rstrip('/')}/#{data['url'].partition('#')[2]}"
    opened = not (only_print or settings.json) and _opens(data["url"])
    output.document(answer, lambda: None if opened else print(printable(data["url"])))
    output.note(_told(data, opened=opened))


def _opens(url: str) -> bool:
    """Return whether a browser takes the URL. One in the terminal would take the terminal, too."""
    import webbrowser

    try:
        browser: Any = webbrowser.get()
    except webbrowser.Error:
        return False
    return not isinstance(browser, webbrowser.GenericBrowser) and bool(browser.open(url))


def _told(data: dict[str, Any], *, opened: bool) -> str:
    where = "opened in the browser" if opened else "open it in a browser on this machine"
    return f"{where}; the link logs in once, within {data['expires_in']:g} s, with the scope {data['scope']}"
