"""Connect an agent to a modvisor network: send events, get answers, receive events.

May import: nothing of the network. Needs anyio, httpx, msgpack and websockets alone.
"""

__version__ = "0.6.0"

__all__ = ["__version__"]
