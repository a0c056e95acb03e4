"""Mods whose workers are no processes, on a virtual clock."""

from tests.supervisor.fixtures import MakeWorld, anyio_backend, make_world

__all__ = ["MakeWorld", "anyio_backend", "make_world"]
