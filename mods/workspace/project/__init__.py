"""Projects: goals, members, artifacts with versions, commits, and a log of all changes."""

from .mod import ProjectMod

__all__ = ["ProjectMod"]
