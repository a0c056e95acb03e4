"""``modvisor graph``: who sends to whom and who needs whom, as text, for graphviz, and as a drawing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.cli.graph import dot, svg, text
from modvisor.supervisor.cli.graph.layers import layered
from modvisor.supervisor.cli.graph.model import DOWN, TROUBLED, WELL, Edge, Graph, graph_of

from .conftest import Command, Served

NEEDED = """
network: {name: demo, port: 0}
mods:
  - path: ./echo
  - {path: ./asks, requires: [echo]}
"""


def drawn(**more: Any) -> Graph:
    rows = [{"id": "wiki", "state": "ready"}, {"id": "search", "state": "backoff"}, {"id": "feed", "state": "failed"}]
    seen = [
        [["agents:staff", "mod:wiki", 10.0, 0.0], ["mod:wiki", "mod:search", 4.0, 1.0]],
        [["agents:staff", "mod:wiki", 20.0, 0.0], ["mod:search", "mod:gone", 4.0, 1.0]],
    ]
    mods = [{"mod_id": "feed", "required_by": ["search"]}, {"mod_id": "search", "required_by": ["wiki"]}]
    return graph_of({"name": "demo", "agents": 3, **more}, rows, mods, seen, 2.0)


def test_traffic_is_the_mean_of_what_was_watched_and_needs_are_edges_too() -> None:
    assert drawn().edges == (
        Edge("agents:staff", "mod:wiki", 15.0),
        Edge("mod:wiki", "mod:search", 2.0, 0.5, needed=True),
        Edge("mod:search", "mod:feed", needed=True),
    )


def test_health_is_that_of_the_state_and_of_the_share_that_failed() -> None:
    assert {node.name: node.health for node in drawn().nodes} == {
        "staff": WELL,
        "wiki": WELL,
        "search": TROUBLED,
        "feed": DOWN,
    }
    assert [Edge("a", "b", 4.0, failures).health for failures in (0.0, 1.0, 2.0)] == [WELL, TROUBLED, DOWN]
    assert svg.thickness(Edge("a", "b", 1000.0)) > svg.thickness(Edge("a", "b", 10.0)) > svg.thickness(Edge("a", "b"))


def test_the_first_row_stands_for_a_mod_that_several_nodes_run() -> None:
    rows = [{"id": f"wiki/{node}", "mod": "wiki", "node": node, "state": "ready"} for node in "ab"]
    found = graph_of({"name": "demo"}, rows, [], [[["agents", "mod:wiki", 2.0, 0.0]]], 1.0)
    assert found.edges == (Edge("agents", "mod:wiki/a", 2.0),)


def test_agents_are_there_without_traffic() -> None:
    found = graph_of({"name": "demo", "agents": 3}, [{"id": "a", "state": "ready"}], [], [], 0.0)
    assert [(node.key, node.note) for node in found.nodes] == [("agents", "3 registered"), ("mod:a", "")]


def test_as_text_each_node_stands_with_what_it_sends_to_whom() -> None:
    assert list(text.lines(drawn())) == [
        "demo: traffic of 2 s",
        *("", "staff", "└─▶ wiki    15.0 events/s"),
        *("", "wiki", "└─▶ search  2.0 events/s, 0.50 failed, needs it"),
        *("", "search  backoff", "└─▶ feed    needs it"),
        *("", "feed  failed"),
    ]
    assert "\n".join(text.lines(drawn(), arms=text.ASCII)).isascii()


def test_a_name_cannot_leave_its_string_or_its_element() -> None:
    hostile = '"]; evil [label="\\" <script>&'
    found = graph_of(
        {"name": hostile}, [{"id": "a", "state": hostile}], [], [[[f"agents:{hostile}", "mod:a", 1.0, 0.0]]], 1
    )
    assert dot.quoted(hostile) == '"\\"]; evil [label=\\"\\\\\\" <script>&"'
    assert next(iter(dot.lines(found))) == f"digraph {dot.quoted(hostile)} {{"
    root = ET.fromstring("\n".join(svg.lines(found)))
    assert hostile in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_drawing_has_a_box_for_each_node_and_a_path_for_each_edge() -> None:
    root = ET.fromstring("\n".join(svg.lines(drawn())))
    name = "{http://www.w3.org/2000/svg}"
    boxes = [box for box in root.iter(f"{name}rect") if "box" in box.get("class", "")]
    paths = [path for path in root.iter(f"{name}path") if path.get("class")]
    assert [box.get("class") for box in boxes] == ["box well", "box well", "box troubled", "box down"]
    assert [path.get("class") for path in paths] == ["well", "troubled", "need"]
    assert [float(box.get("x", 0)) for box in boxes] == sorted(float(box.get("x", 0)) for box in boxes)


KEYS = [f"n{number}" for number in range(8)]


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)), max_size=20), st.integers(0, 3))
def test_every_node_has_one_place_and_no_edge_stays_within_a_layer_unless_a_circle_is_closed(
    edges: list[tuple[str, str]], senders: int
) -> None:
    layers, ways = layered(KEYS, edges, KEYS[:senders])
    depth = {key: at for at, layer in enumerate(layers) for key in layer}
    assert sorted(key for key in depth if key in KEYS) == KEYS
    assert len(depth) == sum(map(len, layers))
    for (start, end), way in ways.items():
        assert [depth[place] for place in way] == list(range(depth[start] + 1, depth[end]))


def test_a_circle_and_an_edge_to_itself_are_drawn_too() -> None:
    layers, ways = layered("abc", [("a", "b"), ("b", "c"), ("c", "a"), ("b", "b"), ("a", "c")])
    assert [[key for key in layer if len(key) == 1] for layer in layers] == [["a"], ["b"], ["c"]]
    assert list(ways) == [("a", "c")]


@pytest.mark.parametrize(
    ("form", "begins"), [("text", "demo: traffic of 0 s"), ("dot", 'digraph "demo" {'), ("svg", "<svg ")]
)
def test_a_running_network_is_drawn_in_each_form(asked: Served, cli: Command, form: str, begins: str) -> None:
    shown = cli.ok("graph", "--for", "0", "--format", form)
    assert shown.startswith(begins)
    assert "echo" in shown


def test_what_a_mod_needs_is_an_edge(serve: Callable[..., Served], write_mod: Callable[..., str], cli: Command) -> None:
    write_mod("asks")
    serve(NEEDED)
    assert cli.json("graph", "--for", "0")["edges"] == [
        {"start": "mod:asks", "end": "mod:echo", "rate": None, "failures": 0.0, "needed": True}
    ]
