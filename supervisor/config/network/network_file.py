"""Reads ``network.yaml``, and reports every mistake at once, with file, line and key.

`network`, and the folders `sections` and `mods`, hold the keys. This file checks what one key alone
cannot tell: that the parts of the file fit each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

from ....ipc.address import MAX_ID
from ....ipc.errors import ModvisorError
from ..mods.audience_reader import check_groups
from ..mods.entry import ENTRY_KEYS
from ..node_folder import NODES
from ..sections.agents import GROUP_PASSWORD
from ..sections.cluster import MAX_NAME, NodeConfig, is_node_name, subject_name
from ..sections.tls import bare_bind
from ..values.basic import read_keys
from ..values.keys import ConfigKey, keys_of, readers_of, schema_of
from ..values.reader import Location, Reader, hint
from ..values.token_strength import is_open, weakness
from ..yaml.source import BROKEN, ConfigError, Problem, Source, format_key, load_yaml
from .network import AdminConfig, LogConfig, NetworkConfig
from .openagents_file import is_openagents, translated

MAX_NAMED = 3  # parts of a key such as mods[1].requires


def load_config(path: str | Path, *, base_dir: str | Path | None = None, node: str | None = None) -> NetworkConfig:
    """Read a network file.

    Args:
        base_dir: where relative paths start; None: at the folder of the file.
        node: which node of the cluster reads it; None: the one that the file names, or the host.

    Raises:
        ConfigError: lists every mistake in the file, or the reason why it cannot be read.
    """
    data, source = read_data(path)
    file = Path(os.path.abspath(path))
    at = Location(source, file.parent if base_dir is None else Path(os.path.abspath(base_dir)))
    config = BROKEN if data is BROKEN else _read_network(data, at, file)
    source.check()
    return at_node(config, node)


def read_data(path: str | Path) -> tuple[Any, Source]:
    """Return the data of a network file in our own words, and the source of its problems.

    The file may be one of OpenAgents: see `openagents_file`. In such a file ``${VAR}`` is plain text.
    """
    source = Source(str(path))
    data = load_yaml(str(path), source)
    if data is BROKEN or not _is_openagents(data):
        return data, source
    source = Source(str(path))
    return _in_own_words(load_yaml(str(path), source, environ=None), source)


def _is_openagents(data: Any) -> bool:
    return is_openagents(data, _TOP.keys() - {"network"})


def _in_own_words(data: Any, source: Source) -> tuple[Any, Source]:
    if not _is_openagents(data):
        return data, source
    return translated(data, source, {"": _TOP.keys() - {"network"}, "network": _NETWORK, "mods": ENTRY_KEYS})


def parse_config(data: dict[str, Any], *, base_dir: str | Path) -> NetworkConfig:
    """Read a network from plain data.

    Relative paths start at ``base_dir``, and problems have no lines.

    Raises:
        ConfigError: lists every mistake.
    """
    data, source = _in_own_words(data, Source())
    config = _read_network(data, Location(source, Path(os.path.abspath(base_dir))), None)
    source.check()
    return at_node(config)


def is_allowed(allowed_mods: Iterable[str] | None, mod_path: str) -> bool:
    """Tell whether a mod may be loaded.

    It may if a pattern such as ``modvisor.mods.*`` or ``./*`` fits, or if there is no list.
    """
    return allowed_mods is None or any(fnmatchcase(mod_path, pattern) for pattern in allowed_mods)


def _read_section(value: Any, at: Location) -> Any:
    if value is None or (isinstance(value, dict) and "name" not in value):
        (at / "name").wrong("the key is missing; give the network a name")
    return read_keys(value, at, _NETWORK)


_network_section = Reader("mapping", _read_section, schema=lambda: schema_of(keys_of(NetworkConfig, "network")))
NETWORK_KEY = ConfigKey(_network_section, "name and address, see [network](#network)", name="network")
TOP_KEYS = {"network": NETWORK_KEY, **keys_of(NetworkConfig)}

_NETWORK = readers_of(NetworkConfig, "network")
_TOP = {name: each.reader for name, each in TOP_KEYS.items()}


def _read_network(data: Any, at: Location, file: Path | None) -> Any:
    if data is None:
        return at.wrong("nothing is configured; write at least 'network: {name: demo}'")
    found = read_keys(data, at, _TOP)
    if isinstance(data, dict) and "network" not in data:
        (at / "network").wrong("the key is missing; write at least 'network: {name: demo}'")
    _check_default_group(data, found, at)
    _check_registration(data, found, at)
    _check_allowed(found, at)
    _check_preload(found, at)
    if isinstance(data, dict) and ("agent_groups" in found or "agent_groups" not in data):
        check_groups(data.get("mods"), found.get("agent_groups", {}), at / "mods")
    network = {"name": "", **found.pop("network", {})}
    if isinstance(network.get("port"), int) and (weak := _weak_token(found.get("admin"), network.get("host"))):
        (at / "admin" / "token").wrong(weak)
    if isinstance(network.get("port"), int) and (bare := _bare_bind(network)):
        (at / "network" / "host").wrong(bare)
    return NetworkConfig(
        network_id=network.pop("id", None) or _slug(network["name"]),
        base_dir=at.base_dir,
        storage=network.pop("storage", None) or at.base_dir / ".modvisor",
        file=file,
        lines=_lines(at.source),
        warnings=tuple(dict.fromkeys(at.source.warnings)),
        log=found.pop("logs", LogConfig()),
        **network,
        **found,
    )


def at_node(config: NetworkConfig, node: str | None = None) -> NetworkConfig:
    """Return what the file says for one node: its labels, its address, a state folder of its own.

    Args:
        node: None: the one that the file names.

    Raises:
        ConfigError: the name is none, the file has no cluster, or the node must not listen where it would.
    """
    cluster = config.cluster
    if cluster is None:
        return config if node is None else _refused(config, "cluster", f"the key is missing, and {node!r} is a node")
    name = cluster.node if node is None else node
    if not is_node_name(name):
        return _refused(
            config, "cluster.node", f"expected 1 to {MAX_NAME} letters, digits, '_', '.', '-', got {name!r}"
        )
    of_node = cluster.nodes.get(name, NodeConfig())
    cluster = replace(
        cluster,
        node=name,
        labels=tuple(dict.fromkeys((*cluster.labels, *of_node.labels))),
        network=cluster.network or subject_name(config.network_id),
    )
    host = config.host if of_node.host is None else of_node.host
    port = config.port if of_node.port is None else of_node.port
    config = replace(config, cluster=cluster, host=host, port=port, storage=config.storage / NODES / name)
    check_open(config)
    return config


def _refused(config: NetworkConfig, key: str, text: str) -> NoReturn:
    raise ConfigError([Problem("" if config.file is None else str(config.file), config.lines.get(key), key, text)])


def check_open(config: NetworkConfig) -> None:
    """Raise `ConfigError` if strangers can reach the network and guess its admin token, or listen in.

    A file is checked when it is read; this is for a host or port that was changed afterwards.
    """
    if config.port is None:
        return
    file = "" if config.file is None else str(config.file)
    found = {
        "network.host": bare_bind(config.host, config.tls, config.insecure),
        "admin.token": _weak_token(config.admin, config.host),
    }
    problems = [Problem(file, config.lines.get(name), name, text) for name, text in found.items() if text]
    if problems:
        raise ConfigError(problems)


def _bare_bind(network: dict[str, Any]) -> str | None:
    host = network.get("host")
    return None if host is None else bare_bind(host, network.get("tls"), network.get("insecure", False))


def _weak_token(admin: AdminConfig | None, host: str | None) -> str | None:
    """Return why the admin token is too weak for an address that strangers can reach."""
    if admin is None or admin.token is None or host is None or not is_open(host):
        return None
    try:
        weak = weakness(admin.token.resolve())
    except ModvisorError:  # reported where the token is read
        return None
    return weak and (
        f"other machines can reach {host}, and the token can be guessed: {weak}. Make one with 'openssl rand -hex 24', "
        "or listen on 127.0.0.1"
    )


def _lines(source: Source) -> dict[str, int]:
    """Return the lines of the upper keys, for mistakes that are found after the file was read."""
    return {format_key(key): line for key, line in source.lines.items() if len(key) <= MAX_NAMED}


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MAX_ID] or "network"


def _check_default_group(data: Any, found: dict[str, Any], at: Location) -> None:
    agents, groups = found.get("agents"), found.get("agent_groups", {})
    if agents is None or agents.default_group is None or agents.default_group in groups:
        return
    if "agent_groups" in found or "agent_groups" not in data:  # else the groups could not be read
        (at / "agents" / "default_group").wrong(
            f"no group {agents.default_group!r} in agent_groups; {hint(agents.default_group, groups)}"
        )


def _check_registration(data: Any, found: dict[str, Any], at: Location) -> None:
    """Warn of a way to register that nobody can go."""
    agents, groups = found.get("agents"), found.get("agent_groups", {})
    if agents is None or agents.registration != GROUP_PASSWORD or any(each.password_hash for each in groups.values()):
        return
    if "agent_groups" in found or "agent_groups" not in data:  # else the groups could not be read
        key = "requires_password" if agents.requires_password else "registration"
        text = "no group in agent_groups has a password_hash, so agents register only with an invite"
        at.source.warn((at / "agents" / key).key, text)


def _check_allowed(found: dict[str, Any], at: Location) -> None:
    """Report mods of the file that ``allowed_mods`` would refuse when they are loaded."""
    for mod in found.get("mods", ()):
        if mod.enabled and mod.path and not is_allowed(found.get("allowed_mods"), mod.path):
            (at / "allowed_mods").wrong(f"no pattern allows {mod.path!r}, which 'mods' lists; add a pattern for it")


def _check_preload(found: dict[str, Any], at: Location) -> None:
    """Report modules that must not be imported once for all: a reload must import a mod afresh."""
    for index, name in enumerate(found.get("network", {}).get("preload", ())):
        place = at / "network" / "preload" / index
        if name == "modvisor" or name.startswith("modvisor."):
            place.wrong(f"{name} is part of modvisor, which loads its own modules; remove it from the list")
        for mod in found.get("mods", ()):
            if mod.path and f"{mod.path.partition(':')[0]}.".startswith(f"{name}."):
                place.wrong(
                    f"{name} contains the mod {mod.path}, and a reload must run the mod's fresh code; list libraries only"
                )
