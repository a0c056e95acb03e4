"""Bundled mods for a shared workspace; README.md lists their events."""
