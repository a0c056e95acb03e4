"""Hundreds of agents on WebSockets, some killed at any moment, and agents that never read."""
