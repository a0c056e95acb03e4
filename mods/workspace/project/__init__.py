"""Projects: goals, members, artifacts with versions, commits, and a log of everything that changed."""

from .mod import ProjectMod

__all__ = ["ProjectMod"]
