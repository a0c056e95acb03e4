"""`modvisor.mods.context`: the worker's context and the one for tests offer what `ModContext` promises."""

from __future__ import annotations

import inspect

import pytest

from modvisor.mods import ModContext
from modvisor.worker.context import WorkerContext
from modvisor.worker.testing import RecordingContext

PROMISED = {name: value for name, value in vars(ModContext).items() if not name.startswith("_")}


@pytest.mark.parametrize("context", [WorkerContext, RecordingContext])
def test_every_promised_method_is_there_with_its_parameters(context: type) -> None:
    methods = {name: value for name, value in PROMISED.items() if inspect.isfunction(value)}
    assert len(methods) == 8
    for name, promised in methods.items():
        given = getattr(context, name)
        assert inspect.signature(given) == inspect.signature(promised), name
        assert inspect.iscoroutinefunction(given) == inspect.iscoroutinefunction(promised), name


@pytest.mark.parametrize("context", [WorkerContext, RecordingContext])
def test_every_promised_attribute_is_set(context: type) -> None:
    attributes = {name for name, value in PROMISED.items() if isinstance(value, property)}
    assert attributes == {"mod_id", "replica", "network_name", "storage_path", "log", "fencing_token", "files"}
    assigned = {
        name for base in context.__mro__[:-1] if "__init__" in vars(base) for name in base.__init__.__code__.co_names
    }
    assert attributes <= assigned
