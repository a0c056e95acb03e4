"""Connect an agent to a modvisor network: send events, get answers, receive events.

    async with AgentClient("http://127.0.0.1:8700", "alice") as me:
        await me.send("chat.message", {"text": "hello"}, to="bob")
        async for event in me.events("chat.*"):
            print(event.source_id, event.text)

`modvisor_client.sync` has the same for programs without an event loop, `modvisor_client.errors`
one class per failure.

May import: nothing of the network. Needs anyio, httpx, msgpack and websockets alone.
"""

from . import errors
from .client import AgentClient
from .errors import ModvisorClientError
from .event import Event, Response
from .streams import EventStream

__version__ = "0.8.0"

__all__ = ["AgentClient", "Event", "EventStream", "ModvisorClientError", "Response", "__version__", "errors"]
