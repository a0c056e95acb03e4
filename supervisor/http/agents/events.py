"""Events as messages carry them: the schemas of what an agent sends and of what it gets. Pure."""

from __future__ import annotations

from ....ipc.event import types_of_fields
from ..routes.schemas import OBJECT, TEXT, Schema, array_of, or_null, schema_of
from .openagents import OPTIONAL

_FIELDS = types_of_fields()

SENT: dict[str, Schema] = {
    "event_name": {**TEXT, "description": "`domain.entity.action`"},
    "target_agent_id": or_null(TEXT),
    "destination_id": {
        **or_null(TEXT),
        "description": "an agent, `agent:broadcast`, `channel:ID`, `group:ID`, `mod:ID`; without it any mod",
    },
    **{name: or_null(schema_of(_FIELDS[name])) for name in OPTIONAL if name != "secret"},
}
"""The keys of an event that an agent sends."""

_NULL: Schema = {"type": "null"}

_GOT: dict[str, Schema] = {
    "event_name": TEXT,
    "source_id": or_null(TEXT),
    "event_id": TEXT,
    "timestamp": {"type": "integer", "description": "seconds since 1970"},
    "source_type": {"enum": ["agent", "mod", "system"]},
    "destination_id": or_null(TEXT),
    "relevant_mod": _NULL,
    "requires_response": {"type": "boolean"},
    "response_to": or_null(TEXT),
    "thread_name": or_null(TEXT),
    "payload": OBJECT,
    "metadata": OBJECT,
    "text_representation": or_null(TEXT),
    "visibility": TEXT,
    "allowed_agents": or_null(array_of(TEXT)),
    "secret": _NULL,
    "source_agent_group": or_null(TEXT),
}

EVENT: Schema = {"type": "object", "properties": _GOT, "required": list(_GOT)}
"""The schema of an event that an agent gets."""
