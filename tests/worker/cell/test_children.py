"""The forked children of these tests."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from .children import in_child

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def threads() -> list[str]:
    """Return the names of this process's threads; one that Python does not know has none."""
    known = [thread.name for thread in threading.enumerate()]
    return known + [""] * (len(os.listdir("/proc/self/task")) - len(known))


def test_a_child_has_one_thread_whatever_traces_were_sent_from_here() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    try:
        assert in_child(threads) == ["MainThread"]
    finally:
        provider.shutdown()
