"""An agent on a WebSocket: its messages, what it asks for with them, and the events that are pushed to it."""
