"""A wiki: pages with all their revisions, full-text search, and proposals by agents who may not edit."""

from .mod import WikiMod

__all__ = ["WikiMod"]
