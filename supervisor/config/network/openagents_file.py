"""Reads the ``network.yaml`` of an OpenAgents network, as it is.

Such a file has its mods, groups and transports inside its ``network`` section. `translated` turns
its data into what `network_file` reads. What has no counterpart here becomes a notice, one of
`Source.warnings`. What would run otherwise than its owner relies on becomes a mistake.

Problems name the keys of the file that the user wrote, also if they are found later in the
translation: see `_Renamed`. The file itself is never written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..values.env import ARGON2ID, is_sha256
from ..values.reader import got, hint
from ..values.token_strength import is_open
from ..yaml.source import BAD_CONFIG, BROKEN, Key, Problem, Source

HTTP_HOST, HTTP_PORT = "0.0.0.0", 8700  # where OpenAgents listens unless the file says otherwise
DEFAULT_GROUP = "guest"  # the group of agents without a password, unless the file names another one
ADMIN = "admin"  # the group that OpenAgents lets manage agents
TIMEOUTS = 6  # `agent_timeout` is so many times `connection_timeout`, unless it is given

_SHAPE = frozenset({"mode", "transports"})  # in 'network', and only of OpenAgents
_MAYBE_SHAPE = frozenset({"mods", "agent_groups"})  # in 'network'; at the top of a file of ours
_LEGACY = frozenset({"transport", "transport_config", "host", "port"})  # one transport, before there were several
_NETWORK_KEYS = (
    _SHAPE | _MAYBE_SHAPE | _LEGACY
    | {"name", "node_id", "default_agent_group", "requires_password", "agent_timeout", "connection_timeout"}
)  # fmt: skip
_GROUP_KEYS = frozenset({"password_hash", "description", "metadata", "permissions"})
_WEAK = hashlib.sha256(b"admin").hexdigest()  # the password of the group admin in the templates of OpenAgents

_NETWORK_NOTICES = {
    "disable_agent_secret_verification": "is ignored: modvisor always checks the secret of an agent",
    "auto_start_agents": "is ignored: agents are programs of their own; start them yourself",
    "identity_enabled": "is ignored: modvisor registers agents nowhere else",
}
_TOP_NOTICES = {
    "external_access": "is ignored: modvisor does not serve MCP",
    "service_agents": "is ignored: agents are programs of their own; start them yourself",
    "log_level": "is ignored: say 'modvisor run --log-level debug'",
    "data_dir": "is ignored: the data is in '.modvisor' beside this file, or where 'storage' in 'network' says",
    "runtime_limit": "is ignored: the network runs until it is stopped",
}
"""Keys whose meaning is not kept: each gets a notice of its own, so that nobody relies on it."""

T = TypeVar("T")


def is_openagents(data: Any, own_sections: Iterable[str]) -> bool:
    """Tell from the shape of a file whether it is one of OpenAgents.

    Args:
        own_sections: the sections that a file of ours has beside ``network``.
    """
    network = data.get("network") if isinstance(data, dict) else None
    if not isinstance(network, dict):
        return False
    return bool(_SHAPE & network.keys()) or (
        bool(_MAYBE_SHAPE & network.keys()) and not any(section in data for section in own_sections)
    )


def translated(data: dict[str, Any], source: Source, own: Mapping[str, Iterable[str]]) -> tuple[dict[str, Any], Source]:
    """Return what the file says in the words of our own, and the source to report problems to.

    Args:
        data: a file that `is_openagents`.
        own: the keys of our own that may stand in the file too: ``network``, ``mods`` and, under
            the empty name, the sections beside ``network``.
    """
    file = _File(data, source, {name: frozenset(keys) for name, keys in own.items()})
    return file.translated(), _Renamed.of(source, file.names)


class _File:
    """One file while it is translated.

    Attributes:
        names: the keys of the translation, and where each stands in the file.
    """

    def __init__(self, data: dict[str, Any], source: Source, own: Mapping[str, frozenset[str]]) -> None:
        self._data = data
        self._network: dict[str, Any] = data["network"]
        self._source = source
        self._own = own
        self._out: dict[str, Any] = {"network": {}}
        self.names: dict[Key, Key] = {}

    def translated(self) -> dict[str, Any]:
        if self._source.file:
            self._note((), "this is a network file of OpenAgents; 'modvisor import' writes the same as one of modvisor")
        self._keep_own()
        self._check_mode()
        self._name()
        self._listen()
        self._groups()
        self._expiry()
        self._mods()
        self._differences()
        self._ignored()
        return self._out

    # -- what goes over

    def _keep_own(self) -> None:
        """Keep keys of our own that the owner has added to the file; OpenAgents ignores them."""
        for key, value in self._data.items():
            if key in self._own[""] & self._network.keys() & _MAYBE_SHAPE:
                self._wrong((key,), "stands in 'network' too; remove one of them")
            elif key in self._own[""]:
                self._put((key,), dict(value) if isinstance(value, dict) else value, (key,))
        for key, value in self._network.items():
            if key in self._own["network"] - _NETWORK_KEYS:
                self._put(("network", key), value, ("network", key))

    def _check_mode(self) -> None:
        mode = self._network.get("mode", "centralized")
        if mode is not BROKEN and mode != "centralized":
            self._wrong(
                ("network", "mode"), f"expected centralized, got {got(mode)}; modvisor has no networks of peers"
            )

    def _name(self) -> None:
        for ours, theirs in (("name", "name"), ("id", "node_id")):
            if self._network.get(theirs) is not None:
                self._put(("network", ours), self._network[theirs], ("network", theirs))
        if "name" not in self._network:
            self.names["network", "name"] = ("network", "name")

    def _listen(self) -> None:
        """Take host and port of the HTTP transport, which is there unless the file lists others only."""
        http, place = self._http()
        if http is None:
            return
        self._put(("network", "host"), http.get("host", HTTP_HOST), (*place, "host"))
        port = http.get("port")
        self._put(("network", "port"), HTTP_PORT if port is None else port, (*place, "port"))
        if "host" not in http:
            self._note(place, f"no host is given, so the network listens on {HTTP_HOST}: every address of the machine")
        host = http.get("host", HTTP_HOST)
        if isinstance(host, str) and is_open(host) and not {"tls", "insecure"} & self._network.keys():
            # OpenAgents listens so without a word. Each start warns of it.
            self._put(("network", "insecure"), True, place)
        if isinstance(tls := http.get("tls"), dict) and tls.get("enabled"):
            text = "name the certificate in 'network.tls: {cert: FILE, key: FILE}', and remove this key"
            self._wrong((*place, "tls"), text)
        if more := sorted(map(str, http.keys() - {"host", "port", "tls"})):
            self._note(place, f"ignored: {', '.join(more)}; modvisor serves its own HTTP API only")

    def _http(self) -> tuple[dict[str, Any] | None, Key]:
        """Return the settings of the HTTP transport and their place; None if there is none."""
        place: Key = ("network", "transports")
        transports = self._network.get("transports")
        if transports is BROKEN:
            return None, place
        if transports is None:
            return self._only_transport()
        if not isinstance(transports, list):
            self._wrong(place, f"expected a list of transports, got {got(transports)}")
            return None, place
        found: tuple[dict[str, Any] | None, Key] = (None, place)
        for index, transport in enumerate(transports):
            at: Key = (*place, index)
            kind = transport.get("type") if isinstance(transport, dict) else transport
            if kind != "http":
                self._note(at, f"the transport {kind} is ignored: agents reach modvisor over HTTP")
            elif found[0] is None:
                settings = transport.get("config") if isinstance(transport, dict) else None
                found = (settings if isinstance(settings, dict) else {}, (*at, "config"))
        if found[0] is None:
            self._note(place, "no transport of type http, so agents cannot reach the network; add one")
        return found

    def _only_transport(self) -> tuple[dict[str, Any] | None, Key]:
        """Return the same of a file without a list: it has one transport, which is HTTP unless it says otherwise."""
        kind = self._network.get("transport", "http")
        if kind not in ("http", "websocket"):  # OpenAgents serves HTTP for a websocket
            self._note(("network", "transport"), f"the transport {kind} is ignored: agents reach modvisor over HTTP")
            return None, ("network",)
        settings = self._network.get("transport_config")
        direct = {name: self._network[name] for name in ("host", "port") if name in self._network}
        return {**direct, **settings} if isinstance(settings, dict) else direct, ("network",)

    def _groups(self) -> None:
        at: Key = ("network", "agent_groups")
        groups = self._network.get("agent_groups") or {}
        if not isinstance(groups, dict):
            self._put(("agent_groups",), groups, at)
            return
        self.names["agent_groups",] = at
        taken = {name: self._group(name, group, (*at, name)) for name, group in groups.items()}
        needs_password = bool(self._network.get("requires_password"))
        self._default_group(taken, groups, needs_password)
        if taken:
            self._out["agent_groups"] = taken
        if needs_password:
            self._agents("registration", "group_password", ("network", "requires_password"))
            for name, group in groups.items():
                if isinstance(group, dict) and not group.get("password_hash"):
                    self._wrong((*at, name), "needs a 'password_hash', because 'requires_password' is true")

    def _group(self, name: Any, group: Any, at: Key) -> Any:
        if not isinstance(group, dict):
            return group
        taken = {key: value for key, value in group.items() if key in _GROUP_KEYS and value not in (None, "")}
        self._unknown(group.keys() - _GROUP_KEYS, _GROUP_KEYS, at)
        secret = group.get("password_hash")
        if isinstance(secret, str) and secret and not (is_sha256(secret) or ARGON2ID.fullmatch(secret)):
            self._wrong(
                (*at, "password_hash"),
                f"expected a SHA-256, 64 hexadecimal digits, got {_kind_of_hash(secret)}: agents send the SHA-256 of the "
                "password, so nobody could prove that one; print one with: modvisor hash-password",
            )
            del taken["password_hash"]
        if name == ADMIN and secret and "permissions" not in group:
            taken["permissions"] = ["agents", "channels"]  # what OpenAgents permits this group
            if secret == _WEAK:
                self._note(
                    (*at, "password_hash"), "the password is 'admin', as in every template of OpenAgents; change it"
                )
        if isinstance(metadata := group.get("metadata"), dict) and "agents" in metadata:
            text = "is for programs only: an event for this group goes to the agents that have joined it"
            self._note((*at, "metadata", "agents"), text)
        return taken

    def _default_group(self, taken: dict[Any, Any], groups: dict[Any, Any], needs_password: bool) -> None:
        at: Key = ("network", "default_agent_group")
        name = self._network.get("default_agent_group", DEFAULT_GROUP)
        if needs_password or name is None or name is BROKEN:
            return
        self._agents("default_group", name, at)
        if isinstance(name, str) and isinstance(groups.get(name), dict) and groups[name].get("password_hash"):
            self._wrong(
                at, f"the group {name!r} has a password, and agents without one would join it; name another group"
            )
        if isinstance(name, str) and name not in taken:
            taken[name] = {}
            self.names["agent_groups", name] = at

    def _expiry(self) -> None:
        if self._network.get("agent_timeout") is not None:
            self._agents("expire_after", self._network["agent_timeout"], ("network", "agent_timeout"))
        elif isinstance(timeout := self._network.get("connection_timeout"), int | float):
            self._agents("expire_after", TIMEOUTS * timeout, ("network", "connection_timeout"))

    def _mods(self) -> None:
        at: Key = ("network", "mods")
        mods = self._network.get("mods")
        if mods is None:
            return
        if not isinstance(mods, list):
            self._put(("mods",), mods, at)
            return
        self.names["mods",] = at
        self._out["mods"] = [self._mod(mod, (*at, index)) for index, mod in enumerate(mods)]

    def _mod(self, mod: Any, at: Key) -> Any:
        """Return an entry as it is: ours has the same three keys, and further ones that may stand here too."""
        if not isinstance(mod, dict):
            return mod
        known = self._own["mods"]
        self._unknown(mod.keys() - known, known, at)
        return {key: value for key, value in mod.items() if key in known}

    # -- what does not

    def _differences(self) -> None:
        for at, section, notices in ((("network",), self._network, _NETWORK_NOTICES), ((), self._data, _TOP_NOTICES)):
            for key, text in notices.items():
                if section.get(key):
                    self._note((*at, key), text)

    def _ignored(self) -> None:
        """Name all other keys together: OpenAgents itself hardly uses them."""
        unused = _LEGACY if self._network.get("transports") is not None else frozenset()
        self._name_ignored(("network",), self._network, _NETWORK_KEYS - unused, _NETWORK_NOTICES, self._own["network"])
        self._name_ignored((), self._data, {"network"}, _TOP_NOTICES, self._own[""])

    def _name_ignored(self, at: Key, section: dict[Any, Any], *known: Iterable[str]) -> None:
        if words := sorted(map(str, section.keys() - {key for keys in known for key in keys})):
            self._note(at, f"ignored, because modvisor has nothing like it: {', '.join(words)}")

    def _unknown(self, keys: Iterable[Any], known: frozenset[str], at: Key) -> None:
        for key in sorted(map(str, keys)):
            self._note((*at, key), f"unknown key, ignored; {hint(key, known)}")

    # -- small steps

    def _put(self, ours: Key, value: Any, theirs: Key) -> None:
        """Set a key of the translation, and remember where it stands in the file."""
        self.names[ours] = theirs
        section: Any = self._out
        for part in ours[:-1]:
            section = section[part]
        section[ours[-1]] = value

    def _agents(self, key: str, value: Any, theirs: Key) -> None:
        """Set a key of 'agents', unless the owner has given it in the words of modvisor."""
        agents = self._out.setdefault("agents", {})
        if isinstance(agents, dict) and key not in agents:
            self._put(("agents", key), value, theirs)

    def _note(self, at: Key, text: str) -> None:
        self._source.warn(at, text)

    def _wrong(self, at: Key, text: str) -> None:
        self._source.report(at, text)


def _kind_of_hash(secret: str) -> str:
    """Describe what is no SHA-256 without repeating it: it may be the password itself."""
    if secret.startswith(("$2a$", "$2b$", "$2y$")):
        return "a bcrypt hash"
    if secret.startswith("$argon2"):
        return "an Argon2 hash"
    return f"a text of {len(secret)} characters"


@dataclass(slots=True)
class _Renamed(Source):
    """The source of a translation: its keys are ours, its problems name the keys of the file."""

    theirs: Source | None = None
    names: Mapping[Key, Key] | None = None

    @classmethod
    def of(cls, theirs: Source, names: Mapping[Key, Key]) -> _Renamed:
        """Share the problems of ``theirs``, and translate the places of its values."""
        places: dict[Key, list[Key]] = {}
        for ours, their in names.items():
            places.setdefault(their, []).append(ours)
        return cls(
            theirs.file,
            _moved(theirs.lines, places),
            _moved(theirs.texts, places),
            _moved(theirs.doubts, places),
            _moved(theirs.variables, places),
            theirs.problems,
            theirs.warnings,
            theirs,
            names,
        )

    @property
    def is_translated(self) -> bool:
        return True

    def problem(self, key: Key, message: str, line: int | None, code: str = BAD_CONFIG) -> Problem:
        assert self.theirs is not None
        return self.theirs.problem(self._name_of(key), message, line, code)

    def _name_of(self, key: Key) -> Key:
        """Return where a key of the translation stands in the file; its longest known part decides."""
        for end in range(len(key), 0, -1):
            if self.names is not None and (their := self.names.get(key[:end])) is not None:
                return (*their, *key[end:])
        return key


def _moved(found: dict[Key, T], places: Mapping[Key, list[Key]]) -> dict[Key, T]:
    """Return what is known of the values of a file, by their keys in the translation."""
    moved: dict[Key, T] = {}
    for key, value in found.items():
        for end in range(len(key), 0, -1):
            for ours in places.get(key[:end], ()):
                moved.setdefault((*ours, *key[end:]), value)
    if () in found:
        moved[()] = found[()]
    return moved
