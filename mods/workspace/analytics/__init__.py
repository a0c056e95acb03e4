"""Analytics: what the network does, counted over sliding windows in bounded memory."""

from .mod import AnalyticsMod

__all__ = ["AnalyticsMod"]
