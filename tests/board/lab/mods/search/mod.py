"""Finds things; `delay` is how long it takes, in seconds."""

import asyncio

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Search(BaseMod):
    version = "1.4.0"
    description = "Finds things"
    config_schema = {
        "type": "object",
        "properties": {
            "delay": {
                "type": "number",
                "minimum": 0,
                "maximum": 5,
                "default": 0,
                "description": "seconds that a search takes",
            },
            "language": {"enum": ["en", "de", "fr"], "default": "en"},
            "fuzzy": {"type": "boolean", "default": True, "title": "find words with a typo"},
            "sources": {"type": "array", "items": {"type": "string"}, "description": "where to look"},
            "index": {"type": "object", "properties": {"shards": {"type": "integer", "minimum": 1, "default": 4}}},
        },
        "additionalProperties": False,
    }

    @mod_event_handler("search.for")
    async def find(self, event):
        await asyncio.sleep(self.config.get("delay", 0))
        return EventResponse(True, data={"found": [event.payload.get("words")], "config": self.config})
