"""docs/moving.md: the mod that a plugin becomes answers as the plugin did, and its keys are keys."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from modvisor.worker.testing import ModHarness

from .pages import steps

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "moving.md").read_text("utf-8")


@pytest.mark.anyio
async def test_the_mod_answers_as_the_plugin_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [plugin_source, *_] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    [mod_source] = [step.text for step in steps(PAGE) if step.file == "mods/orders/mod.py"]
    module = ModuleType("moved_orders")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(mod_source, "docs/moving.md", "exec"), module.__dict__)
    order = {"price": 100, "customer": "ada"}
    async with ModHarness(module.Orders, storage_path=tmp_path, config={"tax": 0.5}) as mod:
        response = await mod.ask("orders.order.add", order)
        sent = [event.payload for event in mod.sent]
    total, letters = answer_of_the_plugin(plugin_source, order)
    assert response.data == {"total": total}
    assert [(payload["to"], payload["text"]) for payload in sent] == letters


def answer_of_the_plugin(source: str, order: dict[str, Any]) -> tuple[float, list[tuple[str, str]]]:
    class Mail:
        letters: list[tuple[str, str]] = []

        def send(self, to: str, text: str) -> None:
            self.letters.append((to, text))

    class App:
        plugins = {"mail": Mail()}

    names: dict[str, Any] = {}
    exec(compile(source, "docs/moving.md", "exec"), names)
    return names["Orders"](App(), {"tax": 0.5}).on_order(order), App.plugins["mail"].letters


def test_the_keys_that_it_names_are_keys() -> None:
    known = set(re.findall(r"^\| `(\w+)` \|", (DOCS / "config.md").read_text("utf-8"), re.MULTILINE))
    here = [row.split("|")[2] for row in re.findall(r"^\|.*\|$", PAGE, re.MULTILINE)]
    named = {word for cell in here for word in re.findall(r"`(?:\w+\.)?([a-z]+_[a-z_]+)`", cell)}
    assert named
    assert named <= known
