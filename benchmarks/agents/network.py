"""The network that the agents connect to."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import psutil

from ..served import served
from .member import PASSWORD_HASH

# The agents of one machine are many; what waits for guests is bounded tightly, so that a run reaches the bound.
NETWORK = f"""
network: {{name: agents, port: 0}}
agent_groups: {{members: {{password_hash: {PASSWORD_HASH}}}}}
agents: {{guest_inbox_bytes: 33554432}}
http: {{trusted_addresses: [127.0.0.1]}}
"""


def network(folder: Path) -> AbstractAsyncContextManager[tuple[psutil.Process, int]]:
    """Run it in a folder. Yield its process, and its port."""
    return served(folder, NETWORK, patience=60.0)
