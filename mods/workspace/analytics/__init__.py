"""Analytics: counts the network's events over sliding windows, in bounded memory."""

from .mod import AnalyticsMod

__all__ = ["AnalyticsMod"]
