"""An event for a mod that runs on another node: asked here, answered there.

May import: `link`, `nodes`, `mods`.
Never: asks a mod of this node over the servers.
"""
