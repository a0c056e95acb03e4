"""What must outlive the node that runs a mod: its events, dead letters, checkpoints and last good version.

May import: `link`.
Never: takes what an earlier holder of the mod writes.
"""
