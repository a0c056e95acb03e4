"""A mod of OpenAgents as a `BaseMod`: our life calls in, theirs out.

Their network calls, in this order and on the running loop: the constructor with the mod's path,
`update_config`, `bind_network`, `initialize`; and `shutdown` at the end. The first four are called in
`initialize`, so that a mod that cannot start is found while the previous incarnation still serves.

At a reload the old incarnation is asked for its state and then *deactivated*, which shuts their mod
down: what it writes at its end is written before the successor serves. If the successor fails, the
old incarnation makes its mod anew and gives it the state.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

from openagents.sdk.base_mod import BaseMod as TheirBaseMod

from ....ipc.errors import Code, InvalidEvent
from ....ipc.event import Event, EventResponse
from ....ipc.messages import MIRROR, Notification, pack
from ....ipc.topic import check_pattern
from ....mods.base import BaseMod
from .. import LoadFailed, Place
from .events import answer_of, to_theirs
from .making import made
from .mirror import Mirror
from .network import Network
from .requests import Requests
from .state import Baseline, gives_its_own, is_known, own_state, state_of, take_state
from .tellings import Tellings


class Guest(BaseMod):
    """One mod of OpenAgents.

    Attributes:
        theirs: its class. Each class has a subclass of `Guest` of its own, with its name.
    """

    theirs: ClassVar[type[TheirBaseMod]]

    _mod: TheirBaseMod | None = None
    _baseline: Baseline

    def settle(self, place: Place) -> None:
        """Build what stands between the mod and its worker. No code of the mod runs yet."""
        self.config, self.context = place.config, place.context
        self._place = place
        self._requests = Requests(place.pipe, place.context, lambda call: self.mirror.channels.answered(call))
        self.mirror = Mirror(self._requests.send)
        self._network = Network(place, self.mirror, self._requests)
        self._tellings = Tellings(self.mirror, self._tell)

    def note(self, notification: Notification) -> None:
        """Keep the mirror true."""
        if notification.method == MIRROR:
            self.mirror.take_page(notification.params)
        else:
            self.mirror.take_changes(notification.params)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns of the mod's handlers, as the network knows patterns."""
        mod = self._living()
        if type(mod).process_event is not TheirBaseMod.process_event:
            return ("*",)  # it looks at every event itself
        found = dict.fromkeys(_pattern(pattern) for entry in mod._event_handlers for pattern in entry.patterns)
        return ("*",) if "*" in found else tuple(found)

    # -- its life

    async def initialize(self) -> None:
        await self._place.pipe.request(MIRROR)
        await self._build()

    async def activate(self) -> None:
        if self._mod is None:
            await self._build()
        await self._tellings.begin()

    async def deactivate(self) -> None:
        """Shut the mod down, but leave its channels to the successor."""
        self._tellings.pause()
        self._network.event_gateway.is_muted = True
        try:
            await self._end()
        finally:
            self._network.event_gateway.is_muted = False

    async def shutdown(self) -> None:
        self._tellings.pause()
        await self._end()
        await self._requests.settled()

    async def _build(self) -> None:
        """Make the mod and start it. Raises `LoadFailed`."""
        cls, place = self.theirs, self._place
        mod = await self._step(f"{cls.__name__}({place.mod_path!r})", lambda: made(cls, place.mod_path, self._network))
        name = cls.__qualname__
        if place.config:
            await self._step(f"{name}.update_config()", lambda: mod.update_config(place.config))
        await self._step(f"{name}.bind_network()", lambda: mod.bind_network(self._network))
        await self._step(f"{name}.initialize()", mod.initialize)
        self._mod, self._baseline = mod, Baseline(mod)

    async def _step(self, what: str, call: Callable[[], Any]) -> Any:
        """Call a method of the mod, plain or coroutine. A failure names it."""
        try:
            result = await _result(call())
        except Exception as error:  # noqa: BLE001 - the mod's own failure
            raise self._place.failed(f"{what} raised", error) from None
        if result is False:
            raise LoadFailed(f"{what} returned False: the mod refuses to start", code=Code.INITIALIZE_FAILED)
        return result

    async def _end(self) -> None:
        mod, self._mod = self._mod, None
        if mod is not None:
            await _result(mod.shutdown())

    def _living(self) -> TheirBaseMod:
        assert self._mod is not None, "the network asks nothing of a mod that was shut down"
        return self._mod

    # -- its state

    async def get_state(self) -> dict[str, Any]:
        mod = self._living()
        await self._tellings.caught_up()
        if gives_its_own(mod, TheirBaseMod):
            state = own_state(mod, await _result(mod.get_state()))
        else:
            state = state_of(mod, self._baseline, self.context.log.warning)
        return {**state, "agents": self._tellings.to_state(), "channels": self.mirror.channels.created()}

    async def show_state(self) -> Any:
        """Return what the mod's own get_state() says, which is for people and programs."""
        return await _result(self._living().get_state())

    async def set_state(self, state: Any, from_version: str) -> None:
        if self._mod is None:
            await self._build()
        await _result(take_state(self._living(), state))
        if is_known(state):
            self._tellings.take_state(state["agents"])
            self.mirror.channels.restore(state["channels"])

    # -- its events

    async def handle(self, event: Event) -> EventResponse | Event | None:
        """Ask the mod. If it passes the event on, return the event if the mod has changed it."""
        if event.via is None:
            await self._tellings.caught_up()
        if self._tellings.is_known(event):
            return None
        before = pack((event.payload, event.metadata))
        theirs = to_theirs(event)
        answer = answer_of(await _result(self._living().process_event(theirs)))
        if answer is not None:
            return answer
        event.payload, event.metadata = theirs.payload, theirs.metadata
        return event if pack((event.payload, event.metadata)) != before else None

    async def _tell(self, name: str, payload: dict[str, Any]) -> None:
        """Give the mod a notification of the network. Report what goes wrong."""
        try:
            await _result(self._living().process_event(to_theirs(Event(name, "system:system", payload=payload))))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the mod raises
            what = f"{self.theirs.__qualname__} was told of agent {payload['agent_id']} ({name}) and raised"
            self.context.log.warning("%s", self._place.failed(what, error))


def guest_class(cls: type[TheirBaseMod]) -> type[Guest]:
    """Return the class of guests of this class, which is named like it in failures and stats."""
    own = {"theirs": cls, "__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    texts = {name: value for name in ("version", "description") if isinstance(value := getattr(cls, name, None), str)}
    return type(cls.__name__, (Guest,), {**own, **texts})


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _pattern(pattern: str) -> str:
    """Return a pattern of ours that matches at least what theirs does, which may be any prefix."""
    try:
        return check_pattern(pattern)
    except InvalidEvent:
        return "*"
