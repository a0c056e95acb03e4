"""The ``modvisor`` command: run a network, and look after one that runs. ``docs/cli.md`` is its reference."""

from .app import main

__all__ = ["main"]
