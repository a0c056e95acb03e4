"""Reloads under steady load: no event is lost, failed, handled twice or out of order, and the mod's counts are exact.

`load` sends the events, at a rate that waits for nobody, and keeps account of them; the mods (``mods/``) count what they
handle, keep their counts in memory alone, and hand them over. `run` puts it together, `audit` finds what is wrong, `summary`
tells.
"""
