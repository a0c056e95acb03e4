"""``modvisor top``: what the rows become on the screen, its keys, and a network that goes away and comes back."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from modvisor.supervisor.cli.client.client import Client
from modvisor.supervisor.cli.client.live import Picture
from modvisor.supervisor.cli.client.polled import record
from modvisor.supervisor.cli.client.target import find_target
from modvisor.supervisor.cli.settings import Settings
from modvisor.supervisor.cli.top.app import Top
from modvisor.supervisor.cli.top.columns import BLOCKS, LETTERS, columns_for, fitted, spark
from modvisor.supervisor.cli.top.heading import heading, worst
from modvisor.supervisor.cli.top.order import arranged
from modvisor.supervisor.cli.top.plain import lines
from modvisor.supervisor.cli.top.table import ModTable

from .conftest import DEADLINE, Command, Served

TEXTUAL_MISSING = "import sys; sys.modules['textual'] = None;"
WITHOUT_TEXTUAL = f"{TEXTUAL_MISSING} from modvisor.supervisor.cli.commands import overview as o;"


def row(mod_id: str, **more: Any) -> dict[str, Any]:
    plain = {"state": "ready", "cpu": 1.0, "rss": 20_000_000, "rate": 2.0, "p99": 0.5, "in_flight": 0, "restarts": 0}
    return {"id": mod_id, **plain, **more}


def seen(*rows: dict[str, Any], **network: Any) -> Picture:
    picture = Picture()
    picture.take({"type": "all", "at": 100.0, "network": {"name": "demo", **network}, "mods": list(rows), "edges": []})
    return picture


# -- what is known of a network


def test_a_change_touches_the_rows_that_it_names_and_keeps_the_order() -> None:
    picture = seen(row("a"), row("b"), row("c"), agents=1)
    changed = {"type": "change", "at": 101.0, "network": {"agents": 2}, "mods": [{"id": "b", "cpu": 50.0}]}
    picture.take({**changed, "removed": ["a"], "edges": [["agents", "mod:b", 3.0, 0.0]]})
    assert [each["id"] for each in picture.mods.values()] == ["b", "c"]
    assert (picture.mods["b"]["cpu"], picture.mods["b"]["rss"]) == (50.0, 20_000_000)
    assert picture.network == {"name": "demo", "agents": 2}
    assert picture.edges == [["agents", "mod:b", 3.0, 0.0]]
    picture.take(
        {"type": "change", "at": 102.0, "network": {}, "mods": [row("d")], "removed": [], "order": ["d", "c", "b"]}
    )
    assert list(picture.mods) == ["d", "c", "b"]


def test_histories_go_on_with_each_point_that_the_network_took_and_stay_bounded() -> None:
    picture = Picture()
    picture.take({"type": "all", "at": 100.0, "points": 7, "mods": [row("a", cpu_history=[1.0] * 60), row("b")]})
    for points, cpu in ((7, 2.0), (8, 3.0), (8, 4.0), (9, 5.0)):
        picture.take({"type": "change", "at": 101.0, "points": points, "mods": [row("a", cpu=cpu)]})
    assert (len(picture.mods["a"]["cpu_history"]), picture.mods["a"]["cpu_history"][-3:]) == (60, [1.0, 3.0, 5.0])
    assert picture.mods["b"]["cpu_history"] == [1.0, 1.0]  # of every row, also of those that did not change
    assert "cpu_history" not in picture.to_dict()["mods"][0]


def test_a_mod_grows_older_without_a_new_row() -> None:
    picture = seen(row("a", since=90.0, uptime=10.0))
    picture.take({"type": "change", "at": 130.0, "mods": []})
    assert picture.mods["a"]["uptime"] == 40.0


def test_stats_of_a_network_without_the_route_become_the_same_rows(asked: Served) -> None:
    known = record(asked.network.get_network_stats(), {"": 4.0, "echo": 3.0})
    (echo,) = known["mods"]
    assert (echo["id"], echo["state"], echo["rate"], echo["workers"]) == ("echo", "ready", 3.0, 1)
    assert (known["network"]["name"], known["network"]["events_per_second"]) == ("demo", 4.0)
    picture = seen(row("gone"), row("echo", cpu_history=[7.0]))
    picture.take(known)
    assert [(each["id"], each["cpu_history"][0]) for each in picture.mods.values()] == [("echo", 7.0)]


# -- what is drawn


def test_what_is_wrong_stands_first_and_the_rest_as_loaded() -> None:
    rows = [
        row("b"),
        row("over", rss=95, memory_limit=100),
        row("a"),
        row("down", state="quarantined"),
        row("back", state="backoff"),
    ]
    assert [each["id"] for each in arranged(rows)] == ["down", "back", "over", "b", "a"]
    assert [each["id"] for each in arranged(rows, "name")] == ["a", "b", "back", "down", "over"]
    assert next(each["id"] for each in arranged(rows, "memory", backwards=True)) == "over"
    assert [each["id"] for each in arranged(rows, only="ready o")] == ["over"]


def test_mods_without_a_figure_stand_below_those_that_have_it() -> None:
    rows = [row("none", cpu=None), row("low", cpu=0.0), row("high", cpu=9.0)]
    assert [each["id"] for each in arranged(rows, "cpu")] == ["high", "low", "none"]


@pytest.mark.parametrize("width", [20, 40, 80, 120, 200, 400])
def test_a_line_is_never_wider_than_the_terminal(width: int) -> None:
    columns = columns_for(width, 30)
    assert sum(column.width + 1 for column in columns) - 1 <= width
    wide = row("m" * 60, state="quarantined", version="1" * 40, audience="x" * 40, uptime=1e9, rss=10**13, pid=4194304)
    picture = seen(wide)
    assert {len(line) <= width for line in list(lines(picture, width))[3:]} == {True}


def test_eighty_columns_have_the_figures_that_matter() -> None:
    heads = [column.head for column in columns_for(80)]
    assert heads == ["MOD", "STATE", "CPU", "CPU-5min", "MEMORY", "EV/s", "P99ms", "BUSY", "UP"]
    assert columns_for(200)[-1].head == "AUDIENCE"
    assert "NODE" not in {column.head for column in columns_for(200)}, "there are none"


def test_in_a_cluster_each_mod_has_its_node_and_a_silent_node_is_said_first() -> None:
    silent = [{"node": "a", "answered": True, "error": None}, {"node": "c", "answered": False, "error": "no answer"}]
    picture = seen(row("wiki", node="b"), row("chat/a", node="a"), row("chat/b", node="b"), nodes=silent)
    assert [each["id"] for each in arranged(picture.mods.values(), only="b")] == ["wiki", "chat/b"]
    text = list(lines(picture, 120))
    assert "! node c did not answer: no answer" in text
    at = text[3].index("NODE")
    assert [line[at:].split()[0] for line in text[4:]] == ["b", "a", "b"]


def test_what_is_cut_says_so() -> None:
    (name, *_) = columns_for(80)
    assert fitted("a" * 50, name) == "a" * (name.width - 1) + "~"
    assert len(fitted("日本語" * 20, name).encode()) > 0


def test_a_history_ends_at_the_right_and_fills_up_to_its_limit() -> None:
    assert spark([0, 50, 100, 200], 6, 100) == "  ▁▅██"
    assert spark([0, 50, 100], 2, 100, LETTERS) == "=#"
    assert spark([], 3, 100) == "   "
    assert spark([None, 100, None], 4, 100) == "  █ "
    assert len(BLOCKS) == len(LETTERS)


def test_the_heading_names_the_worst_mod_its_cause_and_the_key_that_mends_it() -> None:
    picture = seen(
        row("a"), row("b", state="quarantined", problem="mod b: killed\nby memory"), agents=3, events={"failed": 7}
    )
    assert worst(picture) == "b: quarantined [x restarts it]: killed by memory"
    assert heading(picture)[0].startswith("demo  up -  2 mods: 1 ready, 1 quarantined  3 agents")
    assert (
        worst(seen(row("a", rss=95_000_000, memory_limit=100_000_000))) == "a: uses 95.0 MB of the 100.0 MB that it may"
    )
    assert worst(seen(row("a"))) is None


def test_names_from_mods_cannot_control_the_terminal() -> None:
    picture = seen(row("a", version="\x1b[2J", state="failed", problem="\x1b]0;x\x07"))
    assert "\x1b" not in "\n".join([*lines(picture, 300), *heading(picture), worst(picture) or ""])


# -- without a screen


def test_plain_tables_and_json_end_after_their_count(asked: Served, cli: Command) -> None:
    table = cli.ok("top", "-n", "1")
    assert re.search(r"^echo +ready", table, re.M)
    assert table.startswith("demo")
    (line,) = cli.ok("top", "-n", "1", "--json").splitlines()
    assert json.loads(line)["mods"][0]["id"] == "echo"


def test_without_textual_the_command_says_what_to_install(asked: Served) -> None:
    code = f"{WITHOUT_TEXTUAL} o._is_screen = lambda: True; from modvisor.supervisor.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "top"],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=asked.folder,
        check=False,
    )
    assert (done.returncode, "pip install 'modvisor[top]'" in done.stderr) == (2, True)


def test_a_network_that_is_not_there_is_told_before_the_screen_is_taken(cli: Command, tmp_path: Path) -> None:
    result = cli("top", "--socket", str(tmp_path / "none.sock"))
    assert (result.exit_code, "no network is running" in result.stderr) == (3, True)


# -- the screen


def client_of(folder: Path) -> Client:
    return Client(find_target(Settings(file=folder / "network.yaml")))


def text_of(app: Top) -> str:
    """What is on the screen."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def until(app: Top, pilot: Pilot[None], text: str) -> str:
    """Wait until a text is on the screen."""
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while text not in (shown := text_of(app)):
        assert asyncio.get_running_loop().time() < deadline, f"no {text!r} on the screen:\n{shown}"
        await pilot.pause(0.02)
    return shown


def on_screen(
    folder: Path, do: Callable[[Top, Pilot[None]], Awaitable[None]], size: tuple[int, int] = (80, 24)
) -> None:
    async def run() -> None:
        app = Top(client_of(folder), 1)
        async with app.run_test(size=size) as pilot:
            await until(app, pilot, "echo")
            await do(app, pilot)
        app._feed.join()

    asyncio.run(run())


def test_the_screen_shows_the_mods_and_each_page_comes_and_goes(asked: Served) -> None:
    async def do(app: Top, pilot: Pilot[None]) -> None:
        shown = text_of(app)
        assert len(shown.splitlines()) == 24
        assert shown.startswith("demo")
        assert app.query_one(ModTable).chosen == "echo"
        await pilot.press("enter")
        await until(app, pilot, "mod path")
        await pilot.press("q", "L")
        await until(app, pilot, "log of echo")
        await pilot.press("escape", "E")
        await until(app, pilot, "q back")
        await pilot.press("q", "question_mark")
        await until(app, pilot, "what is wrong first   n name")
        await pilot.press("escape")
        await until(app, pilot, "R reload")

    on_screen(asked.folder, do)


def test_keys_sort_turn_round_filter_and_hold(asked: Served) -> None:
    async def do(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("c")
        await until(app, pilot, "order: cpu")
        await pilot.press("c")
        await until(app, pilot, "order: cpu, turned round")
        await pilot.press("slash", *"nope", "enter")
        shown = await until(app, pilot, "filter 'nope': 0 of 1")
        assert not re.search(r"^echo", shown, re.M)
        assert app.query_one(ModTable).chosen is None
        await pilot.press("escape")
        await until(app, pilot, "echo")
        await pilot.press("space")
        await until(app, pilot, "held still")

    on_screen(asked.folder, do)


@pytest.mark.slow
def test_an_action_says_what_it_will_do_and_then_what_happened(served: Served) -> None:
    pid = served.network.get_loaded_mods()["echo"]["pid"]

    async def do(app: Top, pilot: Pilot[None]) -> None:
        await pilot.press("x")
        await until(app, pilot, "restart echo?")
        await pilot.press("n", "x")
        await until(app, pilot, "restart echo?")
        assert served.network.get_loaded_mods()["echo"]["pid"] == pid
        await pilot.press("enter")
        await until(app, pilot, "mod echo restarted")
        assert served.network.get_loaded_mods()["echo"]["pid"] != pid
        (served.folder / "mods" / "echo" / "mod.py").write_text("import no_such_module")
        await pilot.press("R")
        await until(app, pilot, "reload echo?")
        await pilot.press("y")
        await until(app, pilot, "reload echo failed")
        await until(app, pilot, "no_such_module")
        await pilot.press("escape", "u")
        await until(app, pilot, "unload echo?")
        await pilot.press("y")
        await until(app, pilot, "0 mods")

    on_screen(served.folder, do)


def test_the_choice_stays_with_its_mod_and_a_thousand_mods_cost_what_is_in_sight(asked: Served) -> None:
    async def do(app: Top, pilot: Pilot[None]) -> None:
        app._feed.stop()
        app._feed.join()
        table = app.query_one(ModTable)
        app._take({"type": "all", "network": {}, "mods": [row(f"m{n:04}", cpu=float(n)) for n in range(1000)]})
        await until(app, pilot, "m0000")
        await pilot.press("n", "end")
        shown = await until(app, pilot, "m0999")
        assert (table.chosen, "m0000" in shown) == ("m0999", False)
        await pilot.press("c", "k")
        assert table.chosen == "m0999"  # it stands first now
        await pilot.press("j", "j")
        assert table.chosen == "m0997"
        drawn: list[int] = []
        table.render_line = lambda y, draw=table.render_line: (drawn.append(y), draw(y))[1]
        app._draw()
        await pilot.pause()
        assert 0 < len(drawn) < 100
        app._take({"type": "change", "network": {}, "mods": [], "removed": ["m0997"]})
        assert table.chosen == "m0996"

    on_screen(asked.folder, do)


@pytest.mark.slow
def test_a_lost_network_is_told_and_found_again(serve: Callable[..., Served]) -> None:
    served = serve()

    async def do(app: Top, pilot: Pilot[None]) -> None:
        await asyncio.to_thread(served.stop)
        shown = await until(app, pilot, "trying again")
        assert "echo" in shown
        again = await asyncio.to_thread(serve, None)
        while "trying again" in text_of(app):
            await pilot.pause(0.02)
        assert again.network.is_running
        await until(app, pilot, "1 ready")

    on_screen(served.folder, do)
