"""``modvisor agent``: be an agent at the terminal, to try a mod or a network out."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...config.port_urls import port_url
from ..client.connect import connect
from ..client.target import find_target
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode, request_refused
from ..terminal.output import Output, complain
from .forgetting import forget

if TYPE_CHECKING:
    from modvisor_client import AgentClient

    from ..terminal.chat import Chat

PASSWORD = "MODVISOR_PASSWORD"
AHEAD = 64
"""Lines of input that are read ahead."""


def agent(
    settings: Settings,
    agent_id: Annotated[
        str, typer.Argument(metavar="AGENT", help="The id of the agent, such as alice; or 'forget', with an id.")
    ],
    forgotten: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="After 'forget': the agent of which all is deleted.")
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="GROUP", help="The group to join; its password is asked for if it has one."),
    ] = None,
    ask: Annotated[
        bool,
        typer.Option("--password", help=f"Ask for the group's password. [dim](else: {PASSWORD}, if it is set)[/dim]"),
    ] = False,
    invite: Annotated[
        str | None, typer.Option("--invite", metavar="CODE", help="The invitation, where the network asks for one.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option("--secret-file", metavar="PATH", help="Keep the secret here, and be the same agent next time."),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="PATH", help="The certificate to trust, with --url https://…")
    ] = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Go on showing events after the end of the input, until Ctrl-C.")
    ] = False,
) -> None:
    """Be an agent: send events and see what arrives. /help lists what can be typed. 'agent forget ID' deletes one."""
    if forgotten is not None:
        if agent_id != "forget":
            raise CliError(
                ExitCode.USAGE, f"expected one AGENT, or 'forget' and an ID; got {agent_id!r} and {forgotten!r}"
            )
        forget(settings, forgotten)
        return
    from modvisor_client import ModvisorClientError

    options: dict[str, Any] = {"group": group, "invite": invite, "secret_file": secret_file, "connect_timeout": 0.5}
    options["password"] = getpass.getpass("Password of the group: ") if ask else os.environ.get(PASSWORD)
    if ca is not None:
        options["verify"] = ca
    output = Output(as_json=settings.json)
    try:
        asyncio.run(_talk(url_of(settings), agent_id, options, output, stay=stay))
    except ModvisorClientError as error:
        hint = "; --ca names the certificate to trust" if error.code == "untrusted" and ca is None else ""
        raise request_refused(_failure(error), _ENDS, hint) from None


def url_of(settings: Settings) -> str:
    """Return the address of the network's port: the URL that is given, or what its admin socket tells."""
    target = find_target(settings)
    if target.url is not None:
        return target.url
    status = connect(settings).get("/status")
    host, port = str(status["host"]), status["port"]
    if not port:
        text = f"the network of {target} serves no agents: it has no port; set network.port in its file"
        raise CliError(ExitCode.FAILED, text)
    return port_url(host, port, tls=bool(status.get("tls")))


_ENDS = {
    "unreachable": ExitCode.NO_NETWORK,
    "untrusted": ExitCode.NOT_ALLOWED,
    "bad_use": ExitCode.USAGE,
    "bad_input": ExitCode.USAGE,
}
"""How the command ends after errors that the operator's API does not have, or means otherwise."""


def _failure(error: Any) -> dict[str, Any]:
    return {"success": False, "message": str(error), "data": {**error.data, "error": error.code}}


async def _talk(url: str, agent_id: str, options: dict[str, Any], output: Output, *, stay: bool) -> None:
    from modvisor_client import AgentClient

    from ..terminal.chat import Chat

    screen = Screen(output, agent_id)
    async with AgentClient(url, agent_id, **options) as me, _shown(me, screen) as watching:
        screen.note(f"agent {me.agent_id} of {me.network_name}{_group(me)}; /help lists what can be typed")
        await _until_the_end(me, Chat(me, screen.show), screen, watching, stay=stay)


def _group(me: AgentClient) -> str:
    return f", group {me.group}" if me.group else ""


@asynccontextmanager
async def _shown(me: AgentClient, screen: Screen) -> AsyncIterator[asyncio.Task[None]]:
    """Show events as they come. The task ends with the connection."""
    from ..terminal.chat import event_text

    async def watch() -> None:
        async for event in me.events():
            screen.show({"event": asdict(event)}, event_text(event))

    task = asyncio.create_task(watch())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _until_the_end(me: Any, chat: Chat, screen: Screen, watching: asyncio.Task[None], *, stay: bool) -> None:
    """Take lines until there are no more, or the connection ends for good."""
    from ..terminal.chat import Mistake

    lines = Lines(asyncio.get_running_loop())
    going_on = True
    while going_on:
        screen.prompt()
        line = await _first(lines.next(), watching)
        if line is None:
            break
        try:
            going_on = await chat.take(line)
        except Mistake as mistake:
            screen.complain(str(mistake))
    if stay and going_on:
        await watching


async def _first(line: Any, watching: asyncio.Task[None]) -> str | None:
    """Return the next line, None after the last one; raise why the connection ended, if it did."""
    reading = asyncio.ensure_future(line)
    await asyncio.wait({reading, watching}, return_when=asyncio.FIRST_COMPLETED)
    if reading.done():
        return reading.result()
    reading.cancel()
    watching.result()
    return None


class Screen:
    """What is printed: results on stdout, a prompt if somebody types."""

    def __init__(self, output: Output, agent_id: str) -> None:
        self._output = output
        self._has_prompt = not output.as_json and sys.stdin.isatty() and sys.stdout.isatty()
        self._prompt = f"{agent_id}> "

    def prompt(self) -> None:
        if self._has_prompt:
            sys.stdout.write(self._prompt)
            sys.stdout.flush()

    def show(self, data: dict[str, Any], text: str) -> None:
        """Print a result above the prompt."""
        self._clear()
        self._output.item(data, lambda: text)
        self.prompt()

    def note(self, text: str) -> None:
        self._output.note(text)

    def complain(self, text: str) -> None:
        self._clear()
        complain(text)

    def _clear(self) -> None:
        if self._has_prompt:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()


class Lines:
    """The lines of the standard input, read by a thread: a file, a pipe and a terminal alike.

    The thread reads the descriptor itself. A reader of `sys.stdin` that is still blocked at the end
    of the program would hold a lock that Python needs then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._room = threading.Semaphore(AHEAD)
        threading.Thread(target=self._read, name="modvisor-input", daemon=True).start()

    async def next(self) -> str | None:
        """Return the next line; None at the end."""
        line = await self._lines.get()
        self._room.release()
        return line

    def _read(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            for line in _lines_of_stdin():
                self._room.acquire()
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            self._loop.call_soon_threadsafe(self._lines.put_nowait, None)


def _lines_of_stdin() -> Iterator[str]:
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # not a file
        yield from sys.stdin
        return
    rest = b""
    while data := os.read(descriptor, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")
