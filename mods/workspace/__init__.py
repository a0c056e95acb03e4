"""Bundled mods for a shared workspace: wiki, project, messaging, analytics. README.md lists their events."""
