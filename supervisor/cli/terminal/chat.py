"""The conversation of `modvisor agent`: lines in, lines out. Pure, apart from what it asks of the agent."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from modvisor_client import AgentClient, Event, Response
from modvisor_client.errors import NetworkError

TEXT_EVENT = "agent.message"
"""The event that a text to an agent or a channel is sent as."""

HELP = """\
NAME.OF.EVENT {JSON}         send an event to the mod that handles it
NAME.OF.EVENT TO {JSON}      send it to TO: @bob, #general, mod:wiki, group:staff, agent:broadcast
@bob TEXT                    say something to an agent
#general TEXT                say something in a channel
/agents  /mods  /channels    see who and what is there
/join CHANNEL  /part CHANNEL become a member of a channel, or leave it
/subscribe PATTERN           have only events delivered that match; several times for several patterns
/unsubscribe                 have all delivered again
/help  /quit"""


class Mistake(ValueError):
    """A line that says nothing; the message says what was expected."""


@dataclass(frozen=True)
class Said:
    """An event that a line asks to send."""

    event_name: str
    to: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """A line that begins with a slash."""

    name: str
    words: list[str]


def read_line(line: str) -> Said | Command | None:
    """Return what a line asks for; None for an empty one.

    Raises:
        Mistake: it cannot be read.
    """
    line = line.strip()
    if not line:
        return None
    if line.startswith("/"):
        name, *words = line[1:].split()[:10] or [""]
        return Command(name, words)
    first, _, rest = line.partition(" ")
    if first[0] in "@#":
        return _text(first, rest.strip())
    return _event(first, rest.strip())


def _text(to: str, text: str) -> Said:
    if not text:
        raise Mistake(f"{to}: expected a text behind it, such as '{to} hello'")
    return Said(TEXT_EVENT, address(to), {"text": text})


def _event(name: str, rest: str) -> Said:
    if "." not in name:
        raise Mistake(f"{name}: expected the name of an event such as wiki.page.get, @AGENT, #CHANNEL or /help")
    to = None
    if rest and not rest.startswith("{"):
        word, _, rest = rest.partition(" ")
        to = address(word)
    return Said(name, to, _payload(rest.strip()))


def _payload(text: str) -> dict[str, Any]:
    try:
        payload = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise Mistake(f"the payload is not JSON: {error.msg} (column {error.colno})") from None
    if not isinstance(payload, dict):
        raise Mistake('the payload: expected a JSON object such as {"key": 1}')
    return payload


def address(word: str) -> str:
    """Return an address as the network knows it: `@bob` is an agent, `#general` a channel."""
    if word[0] == "@":
        return f"agent:{word[1:]}"
    return f"channel:{word[1:]}" if word[0] == "#" else word


def event_text(event: Event) -> str:
    """Return an event as the terminal shows it."""
    where = event.destination_id or ""
    place = f" {_short(where)}" if where.startswith(("channel:", "group:")) or where == "agent:broadcast" else ""
    who = f"{_short(event.source_id or 'the network')}{place}"
    if event.event_name == TEXT_EVENT and event.text is not None:
        return f"{who}: {event.text}"
    return f"{who}: {event.event_name} {_json(event.payload)}"


def _short(address: str) -> str:
    role, _, name = address.partition(":")
    return {"agent": name, "channel": f"#{name}"}.get(role, address) or address


def response_text(response: Response) -> str:
    """Return an answer as the terminal shows it."""
    if not response.success:
        return f"! {response.message} ({response.error})"
    data = "" if response.data in (None, {}) or response.delivered is not None else f" {_json(response.data)}"
    return f"= {response.message or 'ok'}{data}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


class Chat:
    """What an agent at the terminal does with a line.

    Args:
        show: prints a result: plain data, and the text for people.
    """

    def __init__(self, me: AgentClient, show: Callable[[dict[str, Any], str], None]) -> None:
        self._me = me
        self._show = show
        self._commands: dict[str, Callable[[list[str]], Awaitable[Any]]] = {
            "agents": lambda _: me.agents(),
            "mods": lambda _: me.mods(),
            "channels": lambda _: me.channels(),
            "join": lambda words: me.join(_one(words, "CHANNEL")),
            "part": lambda words: me.part(_one(words, "CHANNEL")),
            "subscribe": lambda words: me.subscribe(_one(words, "PATTERN")),
            "unsubscribe": lambda _: me.unsubscribe(),
        }

    async def take(self, line: str) -> bool:
        """Do what a line asks for. Return whether to go on. Raises `Mistake`."""
        asked = read_line(line)
        if isinstance(asked, Said):
            response = await self._me.send(asked.event_name, asked.payload, to=asked.to)
            self._tell(response)
        elif isinstance(asked, Command):
            return await self._do(asked)
        return True

    async def _do(self, command: Command) -> bool:
        if command.name in ("quit", "exit", "q"):
            return False
        if command.name in ("help", "h", "?"):
            self._show({"help": HELP}, HELP)
            return True
        run = self._commands.get(command.name)
        if run is None:
            raise Mistake(f"/{command.name}: no such command; /help lists them")
        try:
            found = await run(command.words)
        except NetworkError as error:  # as an event that fails
            self._tell(Response(False, str(error), {**error.data, "error": error.code}))
        else:
            self._show({command.name: found}, _listed(found))
        return True

    def _tell(self, response: Response) -> None:
        self._show({"response": asdict(response)}, response_text(response))


def _one(words: list[str], what: str) -> str:
    if len(words) != 1:
        raise Mistake(f"expected one {what}")
    return words[0].lstrip("#")


def _listed(found: Any) -> str:
    if found is None:
        return "= ok"
    return "\n".join(_json(one) for one in found) or "= none" if isinstance(found, list) else f"= {_json(found)}"
