"""The twenty mods: the same code under many settings."""

from __future__ import annotations

from typing import Any

STEADY = [f"steady{n}" for n in range(10)]
MAD = [f"mad{n}" for n in range(10)]
MODS = [name for pair in zip(STEADY, MAD, strict=True) for name in pair]

PLAYER = "./player"

# What is added to the settings below.
_SETTINGS: dict[str, dict[str, Any]] = {
    "steady1": {"durable": True},
    "steady2": {"config": {"checkpoint_each": 10}},
    "steady3": {"limits": {"concurrency": 1}},
    "steady4": {"durable": True, "checkpoint_every": 0.5},
    "steady5": {"env": {"CHAOS_WATCHED": "mad0.work"}},
    "mad1": {"delivery": "at_most_once"},
    "mad2": {"durable": True},
    "mad3": {"durable": True, "config": {"checkpoint_each": 3}},
    "mad4": {"config": {"checkpoint_each": 1}, "env": {"CHAOS_WATCHED": "steady0.work"}},
    "mad5": {"config": {"checkpoint_each": 5}, "checkpoint_every": 0.2},
    "mad6": {"delivery": "at_most_once", "config": {"checkpoint_each": 4}},
    "mad7": {"durable": True, "delivery": "at_most_once"},
    "mad8": {"max_attempts": 3},
    "mad9": {"durable": True, "limits": {"concurrency": 1}},
}

# Tight, so that everything happens soon.
_LIMITS = {
    "memory": "300MB", "disk": "20MB", "processes": 50, "threads": 100, "open_files": 128, "concurrency": 16, "queue": 100,
    "hang_timeout": 1.0, "start_timeout": 5.0, "drain_timeout": 0.5, "shutdown_timeout": 0.5, "term_timeout": 0.3,
}  # fmt: skip
_RESTART = {"max_restarts": 5, "window": 10.0, "first_delay": 0.05, "max_delay": 0.5, "healthy_after": 2.0}


def settings_of(mod_id: str) -> dict[str, Any]:
    """Return the keys of a mod's entry in the network file, without its path."""
    extra = _SETTINGS.get(mod_id, {})
    settings: dict[str, Any] = {"limits": {}} if mod_id in STEADY else {"limits": _LIMITS, "restart": _RESTART}
    return {
        **settings,
        **extra,
        "limits": {**settings["limits"], **extra.get("limits", {})},
        "config": {"checkpoint_each": 0, **extra.get("config", {})},
        "env": {"CHAOS_MOD": mod_id, **extra.get("env", {})},
    }
