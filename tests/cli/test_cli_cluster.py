"""One network on two nodes of one machine: the commands of docs/cluster.md, with real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modvisor.supervisor.cli.client.client import Client
from modvisor.supervisor.cli.client.target import find_target
from modvisor.supervisor.cli.render.nodes import cluster_text, copies
from modvisor.supervisor.cli.settings import Settings
from modvisor.supervisor.cluster.link import embedded

from .conftest import Command, Running

pytestmark = pytest.mark.timeout(120)

FILE = """
network: {name: demo, port: 0}
cluster: {lease: 1s}
mods:
  - path: ./echo
    id: says  # which placement would leave on b when c comes: it moves by the drain alone
    placement: {on: [b, c]}
  - path: ./echo
    id: each
    placement: {copies: all}
"""
Start = Callable[..., Running]


@pytest.fixture
def server(cli: Command, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "network.yaml").write_text(FILE)
    found = cli.json("cluster", "up")
    yield found["url"]
    os.kill(found["pid"], signal.SIGKILL)
    os.waitpid(found["pid"], 0)


def test_two_commands_show_two_nodes_that_serve_one_network(server: str, start: Start, cli: Command) -> None:
    a, b = start("--node", "a", network=FILE, ready=False), start("--node", "b", network=None, ready=False)
    assert [each.until("ready")["node"] for each in (a, b)] == ["a", "b"]

    # Any node answers for all; the command finds one that runs here.
    rows = [(mod["mod_id"], mod["node"], mod["state"]) for mod in cli.json("ps")["mods"]]
    assert rows == [("says", "b", "ready"), ("each", "a", "ready"), ("each", "b", "ready")]
    assert [mod["node"] for mod in cli.json("ps", "--node", "b")["mods"]] == ["b", "b"]
    assert cli.ok("ps").splitlines()[0].startswith("NODE")

    # An event comes to the mod wherever it runs.
    for node in ("a", "b"):
        assert "pong" in cli.ok("send", "test.ping", "--to", "mod:says", "--node", node)
    assert cli.json("stats", "says")["node"] == "b"
    assert cli.ok("logs", "says") == ""
    assert "'nothing' is not loaded and has left no log" in cli("logs", "nothing").output

    nodes = {node["node"]: node for node in cli.json("node", "ls")["nodes"]}
    assert {name: (node["answered"], node["mods"]) for name, node in nodes.items()} == {
        "a": (True, ["each"]),
        "b": (True, ["each", "says"]),
    }
    status = cli.json("cluster", "status")
    assert (status["success"], status["servers"], status["unplaced"]) == (True, [server], [])
    assert "nodes     2, 2 answer" in cli.ok("cluster", "status")
    assert 'modvisor_node_up{node="b"} 1.0' in metrics(cli)

    # What a page calls each/b is the mod each, on node b: it is looked at there, and reloaded wherever it runs.
    client = Client(find_target(Settings()))
    for key, on in (("each%2Fb", "b"), ("each%2Fa", "a"), ("says", "b")):
        assert client.get(f"/mods/{key}")["node"] == on
    assert "every node that runs the mod: a, b" in client.get("/mods/each%2Fb/plan", do="reload")["text"]
    pids = {mod["node"]: mod["pid"] for mod in cli.json("ps")["mods"] if mod["mod_id"] == "each"}
    assert client.post("/mods/each%2Fb/reload")["success"]
    fresh = {mod["node"]: mod["pid"] for mod in cli.json("ps")["mods"] if mod["mod_id"] == "each"}
    assert all(fresh[node] != pids[node] for node in "ab")
    assert client.get("/crashes", mod="each/b")["crashes"] == []
    done = [record for record in client.get("/audit", what="mod")["records"] if record["outcome"] == "ok"]
    assert [(record["what"], record["on"]) for record in done][:1] == [("mod.reload", "each")]

    # A name that no node has is refused, and so is a node of another machine's to be stopped.
    assert "no node 'z' is in this network now; there are: a, b" in cli("ps", "--node", "z").output
    assert "node c does not run on this machine" in cli("stop", "--node", "c").output

    # A third node gets the mod when the second hands it over.
    start("--node", "c", network=None)
    assert "node b has handed over 1 mod\n" in cli.ok("node", "drain", "b")
    assert "pong" in cli.ok("send", "test.ping", "--to", "mod:says"), "it waits until the third node has it"
    assert [mod["node"] for mod in cli.json("ps")["mods"] if mod["mod_id"] == "says"] == ["c"]

    cli.ok("stop", "--node", "b")
    assert b.process.wait(20) == 0
    assert sorted(node["node"] for node in cli.json("node", "ls")["nodes"]) == ["a", "c"]


def metrics(cli: Command) -> str:
    client = Client(find_target(Settings()))
    with client._connect() as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_a_node_without_a_server_says_how_to_get_one(start: Start, tmp_path: Path) -> None:
    node = start("--node", "a", network=FILE, ready=False)
    assert node.process.wait(30) == 8
    assert "start it with 'modvisor cluster up', or name your servers in 'cluster.servers'" in node.stderr
    assert not embedded.is_running(tmp_path / ".modvisor" / "cluster")


def test_a_network_without_a_cluster_has_no_nodes(start: Start, cli: Command) -> None:
    start()
    assert "this network has no nodes" in cli("node", "ls").output
    assert (
        "'b' was named" in cli("ps", "--node", "b").output or "no network is running" in cli("ps", "--node", "b").output
    )


def test_the_status_names_the_servers_whose_copies_are_behind() -> None:
    store = {"wanted": 3, "leader": "s1", "bytes": 0, "error": None}
    late = {"server": "s3", "lag": 7, "is_offline": True, "seen_ago": 12.5}
    stores = [
        {**store, "store": "claims", "copies": 2, "behind": [late]},
        {**store, "store": "mods", "copies": 2, "behind": [{**late, "lag": 0}]},
    ]
    about = {"network": "net", "node": "a", "servers": ["nats://s1"], "server": "nats://s1", "is_connected": True}
    text = cluster_text({**about, "problem": None, "dropped": {}, "nodes": [], "stores": stores})
    assert "copies    3 of each of 2 stores, NOT all there" in text
    assert "server s3: its copies of claims, mods are behind: by up to 7 changes, it was heard of 12.5 s ago" in text
    alone = [{**store, "store": "mods", "wanted": 1, "copies": 1, "behind": []}]
    assert copies(alone) == "1 of each of 1 stores, all of them up to date (with its server, all of it is lost)"
