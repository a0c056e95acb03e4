from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """A worker runs on asyncio's own loop, whatever the network runs on."""
    return "asyncio"
