"""Agents that connect to any node: who is registered, where each is at home, what waits in its inbox.

May import: `link`; `forgetting.py` also `kept`.
Never: knows mods.
"""
