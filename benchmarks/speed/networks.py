"""Measure a network that takes events with `process_event`: modvisor and OpenAgents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from .plan import Plan
from .timing import awaited_trips, in_flight, lasting, latencies, lives, now, per_second
from .work import NEWS, Fields, check, ping

Made = tuple[Fields, Any]


class Asked:
    """A running network, and the loops that measure it.

    Args:
        event: its class of events.
        echo: the destination that answers a `ping`.
    """

    def __init__(self, network: Any, event: Callable[..., Any], plan: Plan, echo: str = "mod:echo") -> None:
        self.network = network
        self.plan = plan
        self._event = event
        self._echo = echo

    def ping(self) -> Fields:
        return ping(self._echo)

    def made(self, fields: Fields) -> Made:
        """Return the fields with the event: what makes it is not measured with a round trip."""
        return fields, self._event(**fields)

    async def call(self, made: Made) -> Any:
        return await self.network.process_event(made[1])

    @staticmethod
    def check(made: Made, response: Any) -> None:
        check(made[0], response.success, response.data)

    async def ask(self, fields: Fields) -> None:
        """Send one event. Raise `WrongAnswer` if it is not answered as it should be."""
        response = await self.network.process_event(self._event(**fields))
        check(fields, response.success, response.data)

    async def warm_up(self, make: Callable[[], Fields] | None = None) -> None:
        await in_flight(self.ask, ((make or self.ping)() for _ in range(self.plan.warm_up)), 8)

    async def round_trips(self, name: str = "rtt") -> dict[str, float]:
        await self.warm_up()
        events = lasting(self.plan.seconds, lambda: self.made(self.ping()))
        found = latencies(await awaited_trips(self.call, self.check, events))
        return {f"{name}_{key}": value for key, value in found.items()}

    async def per_second(self, width: int, make: Callable[[], Fields] | None = None) -> float:
        """Return events per second with `width` in flight."""
        await self.warm_up(make)
        return await per_second(self.ask, lasting(self.plan.seconds, make or self.ping), width)

    async def mod_lives(
        self, short: str, path: str, first: Callable[[], Awaitable[object]], after: Callable[[Any], None], **entry: Any
    ) -> dict[str, float]:
        """Measure from load to first answer, and the unload.

        Args:
            first: asks the mod once; `after`: gets the response to the load, after the unload.
        """
        loaded = None

        async def load() -> None:
            nonlocal loaded
            loaded = await succeed(self.network.load_mod(path, **entry))
            await first()

        async def unload() -> None:
            await succeed(self.network.unload_mod(path))
            after(loaded)

        start, stop = await lives(self.plan.cycles, load, unload)
        return {f"load_{short}_ms": start, "unload_ms" if short == "echo" else f"unload_{short}_ms": stop}

    async def fan_out(
        self,
        register: Callable[[str], Awaitable[Any]],
        poll: Callable[[str], Awaitable[list[Any]]],
        answer: Any = None,
    ) -> dict[str, float]:
        """Return deliveries per second to many inboxes. Emptying and comparing is not measured.

        Args:
            answer: the data of each response, if the network says how many inboxes there were.
        """
        plan, spent = self.plan, 0.0
        names = [f"reader{number}" for number in range(plan.receivers)]
        for name in names:
            await succeed(register(name))
        for _ in range(plan.issues):
            issue = [ping("agent:broadcast", NEWS) for _ in range(plan.news)]
            begin = now()
            for fields in issue:
                response = await succeed(self.network.process_event(self._event(**fields)))
                assert answer is None or response.data == answer, response
            spent += now() - begin
            sent = [fields["event_id"] for fields in issue]
            for name in names:
                assert [_id_of(event) for event in await poll(name)] == sent, f"the inbox of {name}"
        return {"fan_out": plan.issues * plan.news * plan.receivers / spent}


def _id_of(event: Any) -> str:
    return event["event_id"] if isinstance(event, dict) else event.event_id


async def succeed(command: Awaitable[Any]) -> Any:
    """Return the response of a command, or of an event that must succeed."""
    response = await command
    assert response.success, response
    return response
