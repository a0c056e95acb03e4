"""Bundled mods for a shared workspace: wiki, project, messaging, analytics. Their events stand in README.md here."""
