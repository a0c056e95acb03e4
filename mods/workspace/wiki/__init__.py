"""A wiki: pages with all their revisions, full-text search, and proposals of edits."""

from .mod import WikiMod

__all__ = ["WikiMod"]
