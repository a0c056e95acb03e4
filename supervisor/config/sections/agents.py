"""The keys about agents: limits, how they register, and what a group of them may do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..values.basic import MAX_COUNT, duration, flag, number, one_of, or_null, plain, size, text, whole
from ..values.env import password_hash
from ..values.keys import about, key, section
from ..values.names import agent_patterns, event_patterns, permission_set
from ..values.reader import Location, reader

INBOX_POLICIES = ("drop_oldest", "reject")

OPEN, GROUP_PASSWORD, INVITE, CLOSED = "open", "group_password", "invite", "closed"
REGISTRATIONS = (OPEN, GROUP_PASSWORD, INVITE, CLOSED)

ALL, GROUP, NONE = "all", "group", "none"
DIRECTORIES = (ALL, GROUP, NONE)

EVERYTHING = ("*",)


@dataclass(frozen=True, slots=True)
class QuotaConfig:
    """What one agent may use up. Sizes in bytes; None: as for every agent."""

    events_per_second: float | None = key(
        None,
        or_null(number(0.001, MAX_COUNT)),
        "events that it may send in a second, `system.*` too; as many at once after a rest. null: any number",
    )
    bytes_per_second: int | None = key(
        None,
        or_null(size(1000)),
        "how large these events may be together; one that is larger is taken after a rest, and waited for after it. "
        "null: any size",
    )
    subscriptions: int | None = key(None, or_null(whole(0)), "its subscriptions; null: `agents.subscriptions`")
    inbox_size: int | None = key(None, or_null(whole(1)), "events that wait for it; null: `agents.inbox_size`")
    inbox_bytes: int | None = key(
        None, or_null(size(1000)), "how large these may be together; null: `agents.inbox_bytes`"
    )


_SEND = "patterns of the names of events that its agents may send; `system.*` is a matter of permissions alone"
_RECEIVE = "patterns of the names of events that reach its agents; what the network itself tells them always does"
_DIRECTORY = "what its agents may know of other agents, as `agents.directory`; null: as there"


def _send_key() -> Any:
    return key(EVERYTHING, event_patterns, _SEND, shown="all")


def _receive_key() -> Any:
    return key(EVERYTHING, event_patterns, _RECEIVE, shown="all")


def _directory_key() -> Any:
    return key(None, or_null(one_of(*DIRECTORIES)), _DIRECTORY)


def _quota_key(where: str) -> Any:
    return key(QuotaConfig(), section(QuotaConfig), f"what one agent may use up, see [quota](#{where})")


def _may_register_key() -> Any:
    return key(
        (),
        agent_patterns,
        "which of the names in `agents.reserved` the group's password may register, as names or patterns",
    )


@dataclass(frozen=True, slots=True)
class GuestsConfig:
    """What agents in no group may send, receive, use up and know."""

    send: tuple[str, ...] = _send_key()
    receive: tuple[str, ...] = _receive_key()
    directory: str | None = _directory_key()
    quota: QuotaConfig = _quota_key("agentsguestsquota")


@reader("true or false", "boolean")
def _requires_password(value: Any, at: Location) -> Any:
    at.source.warn(at.key, "this is the older name of a key; write 'registration: group_password' instead")
    return flag(value, at)


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group that agents join with a password, of which ``password_hash`` is argon2id or the SHA-256."""

    name: str
    permissions: frozenset[str] = key(
        frozenset(),
        permission_set,
        "`mods`: load, unload and reload mods; `agents`: manage agents; `channels`: manage channels",
    )
    password_hash: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            or_null(password_hash),
            "what `modvisor hash-password` prints for the password; its plain SHA-256 works, too, with a warning. "
            "null: nobody joins by password",
        ),
    )
    description: str | None = key(None, or_null(text), "what the group is for, for people")
    metadata: dict[str, Any] = field(
        default_factory=dict, metadata=about(plain, "any plain data about the group, for programs")
    )
    send: tuple[str, ...] = _send_key()
    receive: tuple[str, ...] = _receive_key()
    directory: str | None = _directory_key()
    may_register: tuple[str, ...] = _may_register_key()
    quota: QuotaConfig = _quota_key("agent_groupsnamequota")


@dataclass(frozen=True, slots=True)
class AgentsConfig:
    """Limits that hold for every agent. Times in seconds, sizes in bytes."""

    inbox_size: int = key(1000, whole(1), "events that wait for an agent to poll them")
    inbox_policy: str = key(
        "drop_oldest",
        one_of(*INBOX_POLICIES),
        "when an inbox is full by number or size: `drop_oldest` drops the oldest events of the source that takes up "
        "most of it, `reject` refuses the new event and tells its sender. With `reject`, the events of one source fill "
        "an inbox at most, and those of other sources have as much room again. The agent is told what it did not get",
    )
    expire_after: float | None = key(
        300.0, or_null(duration()), "an agent that neither polls nor sends requests for so long is removed; null: never"
    )
    max_agents: int = key(10_000, whole(1), "agents registered at once")
    default_group: str | None = key(
        None,
        or_null(text),
        "the group in `agent_groups` of agents that register without a password; null: no group",
    )
    registration: str = key(
        OPEN,
        one_of(*REGISTRATIONS),
        "how an agent from outside gets a new id. `open`: it asks; `group_password`: with the password of a group, or an "
        "invite; `invite`: with an [invite](operating.md#who-may-what); `closed`: not at all. From inside, and for "
        "holders of the permission `agents`, it always can",
    )
    requires_password: bool = key(
        False, _requires_password, "the older name of `registration: group_password`; true means that"
    )
    reserved: tuple[str, ...] = key(
        (),
        agent_patterns,
        "ids that are registered only from inside, with an invite that names them, or with the password of a group that "
        "[`may_register`](#agent_groupsname) them; `*` stands for any characters, and upper and lower case are the same",
    )
    directory: str = key(
        ALL,
        one_of(*DIRECTORIES),
        "which other agents `system.list_agents`, `system.get_channel_members` and `/api/health` show to an agent. "
        "`all`; `group`: those of its group, and those that are in a channel with it; `none`: only those that are in a "
        "channel with it. Holders of the permission `agents` see all",
    )
    guests: GuestsConfig = key(
        GuestsConfig(), section(GuestsConfig), "rights of agents that are in no group, see [guests](#agentsguests)"
    )
    inbox_bytes: int = key(
        16 * 1024 * 1024,
        size(1000),
        "how large the waiting events may be together, counted as they travel to a mod; a larger event is refused",
    )
    metadata_bytes: int = key(
        16 * 1024, size(100), "how large the metadata of one agent may be, as packed for the disk"
    )
    guest_share: float = key(
        0.5,
        number(0, 1),
        "the part of `max_agents`, `max_channels` and `all_patterns` that guests may fill while an agent group has a "
        "password; the rest is kept for agents that give one",
    )
    guests_per_address: int = key(256, whole(1), "guests registered at once from one address")
    guest_inbox_bytes: int = key(
        256 * 1024 * 1024,
        size(1000),
        "how large the events that wait for all guests may be together, each event once however many wait for it; above "
        "it the guest that holds the most loses its oldest events, whatever `inbox_policy` says, and is told",
    )
    guest_return: float | None = key(
        60.0,
        or_null(duration()),
        "a guest that sends no request for so long after its registration is removed; null: it is as any agent",
    )
    kick_cooldown: float | None = key(
        60.0,
        or_null(duration()),
        "how long the id of an agent that was kicked (`system.kick_agent`) cannot be registered; null: it can at once",
    )
    wrong_passwords: int = key(
        5, whole(0), "how many wrong passwords for one group are answered at once to one address; then it must wait"
    )
    password_delay: float = key(
        1.0,
        duration(),
        "how long the address must wait after one more wrong password for that group; the time doubles each time",
    )
    password_delay_max: float = key(
        300.0, duration(), "the longest time it must wait; wrong passwords that are older are forgotten"
    )
    subscriptions: int = key(1000, whole(1), "subscriptions of one agent")
    patterns: int = key(
        1000,
        whole(1),
        "patterns in all subscriptions of one agent together; a pattern counts once for each channel of its subscription",
    )
    all_patterns: int = key(200_000, whole(1), "patterns in the subscriptions of all agents together")
    max_channels: int = key(10_000, whole(1), "channels in the network; one ends with its last member")
    channels_per_agent: int = key(1000, whole(1), "channels of one agent, and of all guests at one address together")
    password_queue: int = key(
        64,
        whole(0),
        "registrations that may wait while two argon2id passwords are checked; one address has one check at a time",
    )
    max_invites: int = key(1000, whole(0), "invites that are neither used up nor expired")

    def __post_init__(self) -> None:
        if self.requires_password and self.registration == OPEN:
            object.__setattr__(self, "registration", GROUP_PASSWORD)
