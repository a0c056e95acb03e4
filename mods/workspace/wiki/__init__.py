"""A wiki: pages with every revision kept, full-text search, and proposals for those who may not edit."""

from .mod import WikiMod

__all__ = ["WikiMod"]
