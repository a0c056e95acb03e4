"""Messaging: channels, direct messages, threads, reactions and unread counts, delivered through the network."""

from .mod import MessagingMod

__all__ = ["MessagingMod"]
