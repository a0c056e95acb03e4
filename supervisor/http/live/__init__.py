"""One connection on which an agent sends, and gets its events pushed: WebSocket, and server-sent events."""
