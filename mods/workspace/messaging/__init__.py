"""Messaging: channels, direct messages, threads, reactions and unread counts."""

from .mod import MessagingMod

__all__ = ["MessagingMod"]
