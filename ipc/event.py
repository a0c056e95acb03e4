"""`Event` and `EventResponse`, the only things that travel through a network."""

from __future__ import annotations

import dataclasses
import os
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any, get_type_hints

from .address import AGENT, Address, InvalidId, parse_address
from .errors import InvalidEvent, shown
from .record import Record, field, record
from .topic import check_event_name

VISIBILITIES = frozenset({"public", "network", "channel", "direct", "restricted", "mod_only"})
MAX_DEPTH = 100
"""Levels of nested containers. Deeper data cannot be copied or written as JSON everywhere."""

MAX_EVENT_ID = 256
"""Characters of an id. Ids of answered events are remembered; they are not a place for data."""


MAX_KNOWN = 8192
"""Combinations of names, ids and visibility that are remembered as checked. They come from outside,
so there is a cap."""

LEVELS = 5
"""Levels of containers up to which a value is decoded straight into its place, see `usual`."""

if TYPE_CHECKING:
    Data = dict[str, Any]
    Value = Any
    Seconds = float
else:
    # What msgspec decodes straight into these fields. All else takes the long way (see `usual`):
    # bytes, datetimes, keys that are not text, and what is nested deeper.
    Seconds = int | float
    Value = _scalar = str | int | float | bool | None
    for _ in range(LEVELS):
        Value = _scalar | list[Value] | dict[str, Value]
    Data = dict[str, Value]

_INFINITE = float("inf")

# Made in advance: to ask the kernel for each id would double the cost of building an event.
_ids: list[str] = []
os.register_at_fork(after_in_child=_ids.clear)  # else parent and child would use the same ids


def new_event_id() -> str:
    """Return a random id: 128 bits as 32 hexadecimal digits."""
    while True:
        try:
            return _ids.pop()
        except IndexError:
            digits = os.urandom(4096).hex()
            _ids.extend(digits[at : at + 32] for at in range(0, len(digits), 32))


def _no_payload() -> Data:
    return {}  # not `dict` itself: msgspec would leave an empty payload out


@record
class Event(Record):
    """Something that happened or is asked for.

    Raises `InvalidEvent` when built with a name, id or type that does not follow the grammar.

    Attributes:
        event_name: ``domain.entity.action``, see `modvisor.ipc.topic`.
        source_id: the sender: ``agent:alice`` (or bare ``alice``), ``mod:wiki``, ``system:system``.
        destination_id: ``agent:ID``, ``agent:broadcast``, ``channel:ID``, ``group:ID``, ``mod:ID``
            or None.
        payload: the data, of msgpack types (None, bool, 64-bit int, float, str, bytes, list, dict,
            aware datetime).
        event_id: unique per source. A repeated id is a retry: it gets the first event's response.
        timestamp: Unix seconds, set by the network when it accepts the event.
        timeout: seconds until the sender gives up (None: the mod's or the network's default).
        visibility: ``restricted``: only ``allowed_agents`` among the receivers (none given: no
            agent); ``mod_only``: no agent; any other: all receivers.
        secret: the sender's secret. The network removes it before anybody else sees the event.
        source_agent_group: the sender's group, set by the network.
        via: the mod whose worker emitted the event (``mod:ID``), set by the network.
        cause: the id of the event whose handler sent this one, set by the network.
        hops: how many handlers lie between the first event of the chain and this one, set by the
            network.
        attempt: 1, or more when the event is delivered to a mod again.
    """

    event_name: str
    source_id: str | None = None
    destination_id: str | None = None
    payload: Data = field(default_factory=_no_payload)
    event_id: str = field(default_factory=new_event_id)
    timestamp: Seconds = field(default_factory=time.time)
    metadata: Data = field(default_factory=dict)
    timeout: Seconds | None = None
    visibility: str = "network"
    allowed_agents: list[str] | None = None
    requires_response: bool = False
    response_to: str | None = None
    thread_name: str | None = None
    text_representation: str | None = None
    secret: str | None = None
    source_agent_group: str | None = None
    via: str | None = None
    cause: str | None = None
    hops: int = 0
    attempt: int = 1

    def __post_init__(self) -> None:
        # Most events have names that were checked before.
        timeout = self.timeout
        if (
            type(self.payload) is dict
            and type(self.metadata) is dict
            and type(self.event_id) is str
            and 0 < len(self.event_id) <= MAX_EVENT_ID
            and type(self.timestamp) is float
            and (timeout is None or (type(timeout) is float and 0.0 < timeout < _INFINITE))
            and type(self.event_name) is str
            and type(self.visibility) is str
        ):
            try:
                if (self.event_name, self.source_id, self.destination_id, self.visibility) in _known_names:
                    return
            except TypeError:  # an id that cannot be hashed
                pass
        self._check_fields()

    def _check_fields(self) -> None:
        """Check one field after the other. Raise `InvalidEvent`, which names the first wrong one."""
        if type(self.event_name) is not str:
            raise _wrong("event_name", "text such as 'wiki.page.create'", self.event_name)
        check_event_name(self.event_name)
        if type(self.payload) is not dict:
            raise _wrong("payload", "a dict", self.payload)
        if type(self.metadata) is not dict:
            raise _wrong("metadata", "a dict", self.metadata)
        if type(self.event_id) is not str or not 0 < len(self.event_id) <= MAX_EVENT_ID:
            raise _wrong("event_id", f"text of 1 to {MAX_EVENT_ID} characters", self.event_id)
        _check_address("source_id", self.source_id)
        _check_address("destination_id", self.destination_id)
        if self.timeout is not None and not (_is_number(self.timeout) and 0 < self.timeout < _INFINITE):
            raise _wrong("timeout", "a positive number of seconds", self.timeout)
        _check_visibility(self.visibility)
        if not _is_number(self.timestamp):
            raise _wrong("timestamp", "Unix seconds", self.timestamp)
        if len(_known_names) >= MAX_KNOWN:
            _known_names.clear()
        _known_names.add((self.event_name, self.source_id, self.destination_id, self.visibility))

    @property
    def source(self) -> Address | None:
        """The parsed `source_id`."""
        return None if self.source_id is None else parse_address(self.source_id)

    @property
    def destination(self) -> Address | None:
        """The parsed `destination_id`."""
        return None if self.destination_id is None else parse_address(self.destination_id)

    @property
    def source_agent(self) -> str | None:
        """The sending agent's bare id, or None if the source is not an agent."""
        source = self.source
        return source.id if source is not None and source.role == AGENT else None

    def to_dict(self) -> dict[str, Any]:
        """Return the event as plain data, without fields at their default.

        Payload and metadata are shared, not copied.
        """
        out: dict[str, Any] = {
            "event_name": self.event_name,
            "event_id": self.event_id,
            "timestamp": self.timestamp,
            "payload": self.payload,
        }
        if self.source_id is not None:
            out["source_id"] = self.source_id
        if self.destination_id is not None:
            out["destination_id"] = self.destination_id
        if self.metadata:
            out["metadata"] = self.metadata
        rare = rare_of(self)
        if rare != RARE_DEFAULTS:
            for name, value, default in zip(_RARE, rare, RARE_DEFAULTS, strict=True):
                if value != default:
                    out[name] = value
        return out

    @classmethod
    def from_dict(cls, data: Any, *, is_shallow: bool = False) -> Event:
        """Build an event from untrusted plain data. Ignore unknown keys: newer peers may add some.

        Args:
            is_shallow: whoever has read the data has made sure of `MAX_DEPTH`.

        Raises:
            InvalidEvent: not a dict, no event_name, a field of the wrong type, or data nested
                deeper than `MAX_DEPTH`.
        """
        if type(data) is not dict:
            raise InvalidEvent(f"event: expected a mapping, got {type(data).__name__}")
        if "event_name" not in data:
            raise InvalidEvent("event: 'event_name' is missing")
        if _USUAL.issuperset(data):
            event = cls(**data)
        else:
            data = {key: value for key, value in data.items() if key in _FIELDS}
            event = cls(**data)
            for name in data.keys() & _CHECKED.keys():
                if not isinstance(data[name], _CHECKED[name]):
                    raise _wrong(name, _CHECKED_TEXT[name], data[name])
            if event.allowed_agents is not None and not all(isinstance(agent, str) for agent in event.allowed_agents):
                raise _wrong("allowed_agents", "a list of agent ids", event.allowed_agents)
        if not is_shallow:
            check_depth("payload", event.payload)
            check_depth("metadata", event.metadata)
        return event

    def copy(self) -> Event:
        """Return a copy that shares no container of payload or metadata with the original."""
        twin = self.twin()
        twin.unshare()
        return twin

    def unshare(self) -> None:
        """Replace payload, metadata and allowed_agents by copies that nobody else holds."""
        self.payload, self.metadata = copy_data(self.payload), copy_data(self.metadata)
        self.allowed_agents = copy_data(self.allowed_agents)

    def twin(self) -> Event:
        """Return a copy that shares payload, metadata and allowed_agents with the original."""
        return self.__copy__()


def types_of_fields() -> dict[str, Any]:
    """Return the type of each field of an event, as its readers know it."""
    return {**get_type_hints(Event), **_ANY_DATA, "timestamp": float, "timeout": float | None}


_ANY_DATA = {"payload": dict[str, Any], "metadata": dict[str, Any]}


@record
class EventResponse(Record):
    """What the sender of an event gets back.

    Attributes:
        success: whether the event was answered or delivered.
        message: one sentence for people.
        data: for programs; on failure ``{"error": code, …}`` with a code of
            `modvisor.ipc.errors.Code`.
        event_name: the name of the answered event, set by the network.
    """

    success: bool
    message: str | None = None
    data: Value = None
    event_name: str | None = None

    def __post_init__(self) -> None:
        if type(self.success) is not bool:
            raise _wrong("success", "True or False", self.success)
        if self.message is not None and not isinstance(self.message, str):
            raise _wrong("message", "text", self.message)

    @classmethod
    def failure(cls, code: str, message: str, /, **details: Any) -> EventResponse:
        """Return a failed response whose ``data["error"]`` is ``code``."""
        return cls(False, message, {"error": str(code), **details})

    @property
    def error(self) -> str | None:
        """The error code of a failure, None for a success or a failure without a code."""
        if self.success or not isinstance(self.data, dict):
            return None
        return self.data.get("error")

    def to_dict(self) -> dict[str, Any]:
        """Return the response as plain data, without fields that are None."""
        out: dict[str, Any] = {"success": self.success}
        if self.message is not None:
            out["message"] = self.message
        if self.data is not None:
            out["data"] = self.data
        if self.event_name is not None:
            out["event_name"] = self.event_name
        return out

    @classmethod
    def from_dict(cls, data: Any) -> EventResponse:
        """Build a response from untrusted plain data; raise `InvalidEvent`."""
        if type(data) is not dict or "success" not in data:
            raise InvalidEvent("response: expected a mapping with 'success'")
        get = data.get
        answered = get("data")
        if answered:
            check_depth("data", answered)
        return cls(data["success"], get("message"), answered, get("event_name"))


def copy_data(value: Any) -> Any:
    """Return a deep copy of plain data.

    Several times faster than `copy.deepcopy`, since plain data has no cycles.
    """
    kind = type(value)
    if kind is dict:
        if _CONTAINERS.isdisjoint(map(type, value.values())):
            return value.copy()
        return {key: copy_data(item) if type(item) in _CONTAINERS else item for key, item in value.items()}
    if kind is list:
        if _CONTAINERS.isdisjoint(map(type, value)):
            return value.copy()
        return [copy_data(item) if type(item) in _CONTAINERS else item for item in value]
    if kind is tuple:
        return tuple(copy_data(item) for item in value)
    return value


def check_depth(what: str, value: Any) -> None:
    """Raise `InvalidEvent` if plain data is nested deeper than `MAX_DEPTH`. It has no cycles."""
    if type(value) is dict and _CONTAINERS.isdisjoint(map(type, value.values())):
        return
    level = [value] if type(value) in _CONTAINERS else []
    depth = 0
    while level:
        if depth == MAX_DEPTH:
            raise InvalidEvent(f"{what}: nested deeper than {MAX_DEPTH} levels")
        level = _containers_in(level)
        depth += 1


def _containers_in(containers: list[Any]) -> list[Any]:
    found: list[Any] = []
    for container in containers:
        items = container.values() if type(container) is dict else container
        # Skip a list of a million numbers at once.
        if len(items) > _FEW and _CONTAINERS.isdisjoint(map(type, items)):
            continue
        for item in items:
            if type(item) in _CONTAINERS:
                found.append(item)
    return found


_known_names: set[tuple[Any, ...]] = set()  # event_name, source_id, destination_id, visibility
_FEW = 16  # up to so many items, a loop is as fast
_CONTAINERS = frozenset({dict, list, tuple})
_FIELDS = {field.name: field for field in dataclasses.fields(Event)}  # type: ignore[arg-type]
# Fields that an event seldom has. They are sent only when they differ from their default.
_RARE = (
    "timeout", "visibility", "allowed_agents", "requires_response", "response_to", "thread_name",
    "text_representation", "secret", "source_agent_group", "via", "cause", "hops", "attempt",
)  # fmt: skip
RARE_DEFAULTS = tuple(_FIELDS[name].default for name in _RARE)
rare_of = attrgetter(*_RARE)
_TEXT = (str, type(None))
# Fields that __post_init__ does not check, for speed: our own code sets them. `from_dict` does.
_CHECKED: dict[str, tuple[type, ...]] = {
    "allowed_agents": (list, type(None)),
    "requires_response": (bool,),
    "response_to": _TEXT,
    "thread_name": _TEXT,
    "text_representation": _TEXT,
    "secret": _TEXT,
    "source_agent_group": _TEXT,
    "via": _TEXT,
    "cause": _TEXT,
    "hops": (int,),
    "attempt": (int,),
}
_USUAL = _FIELDS.keys() - _CHECKED.keys()
_CHECKED_TEXT = {
    name: " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
    for name, kinds in _CHECKED.items()
}


def _check_visibility(value: Any) -> None:
    if type(value) is not str or value not in VISIBILITIES:
        raise _wrong("visibility", f"one of {', '.join(sorted(VISIBILITIES))}", value)


def _check_address(field_name: str, value: Any) -> None:
    if value is None:
        return
    try:
        parse_address(value)
    except InvalidId as error:
        raise InvalidEvent(f"{field_name}: {error}") from None
    except TypeError:  # unhashable: not text
        raise _wrong(field_name, "text such as 'agent:alice'", value) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(field_name: str, expected: str, value: Any) -> InvalidEvent:
    kind = "" if isinstance(value, (dict, list, tuple)) else f"{type(value).__name__} "
    return InvalidEvent(f"{field_name}: expected {expected}, got {kind}{shown(value, 60)}")
