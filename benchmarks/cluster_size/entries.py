"""What nodes write, of the usual size: one entry of each kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def session(number: int) -> dict[str, Any]:
    return {
        "node": f"node-{number}", "instance": "0123456789abcdef", "labels": ["eu", "gpu"], "version": "0.8.0", "protocol": 1,
        "address": f"http://10.0.0.{number % 250}:8700", "started_at": 1796000000.123, "load": 0.42, "mods": 100,
    }  # fmt: skip


def claim(number: int) -> dict[str, Any]:
    return {"node": f"node-{number % 100}", "session": f"node-{number % 100}/12345", "at": 1796000000.123}


def status(number: int) -> dict[str, Any]:
    handlers = [{"pattern": f"shop{number}.order.*", "observe": False}, {"pattern": f"shop{number}.stock.get"}]
    manifest = {
        "name": f"shop{number}", "version": "1.2.3", "description": "keeps the orders of a shop", "handlers": handlers,
        "requires": [], "optional": [], "observes": [], "python": "3.11.7", "pid": 4711,
    }  # fmt: skip
    return {
        "node": f"node-{number % 100}", "token": 12345 + number, "state": "ready", "manifest": manifest, "version": "1.2.3",
        "digest": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "error": None,
        "loaded_at": 1796000000.123,
    }  # fmt: skip


def agent(number: int) -> dict[str, Any]:
    return {
        "metadata": {"name": f"Agent {number}", "capabilities": ["search", "summarize"], "team": f"team-{number % 50}"},
        "group": "workers", "secret": "$argon2id$" + 64 * "x", "registered_at": 1796000000.123,
    }  # fmt: skip


def home(number: int) -> dict[str, Any]:
    return {"node": f"node-{number % 100}", "at": 1796000000.123}


def member(number: int) -> dict[str, Any]:
    return {"since": 1796000000.123}


KINDS: dict[str, tuple[str, Callable[[int], dict[str, Any]]]] = {
    "session": ("nodes", session),
    "claim": ("claims", claim),
    "status": ("state", status),
    "agent": ("agents", agent),
    "home": ("homes", home),
    "member": ("channels", member),
}
"""By kind of entry: the bucket that holds it, and an entry of the usual size."""
