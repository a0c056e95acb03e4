"""Strangers attack the port of a network while honest agents work."""
