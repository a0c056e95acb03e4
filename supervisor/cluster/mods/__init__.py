"""Which node runs which mod: placement, claims, commands, hand-overs, and how each mod is.

May import: `link`, `nodes`.
Never: carries an event.
"""
