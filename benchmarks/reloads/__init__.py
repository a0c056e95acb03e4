"""Reload under steady load: no event is lost, failed, handled twice or out of order.

`load` sends the events at a steady rate and keeps account of them. The mods (``mods/``) count what
they handle, in memory alone, and hand their counts over. `run` puts it together, `audit` finds what
is wrong, and `summary` describes the result.
"""
