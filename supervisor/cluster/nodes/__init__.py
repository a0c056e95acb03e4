"""Who is in the network: the session of this node, the other nodes, and what each shows of itself.

May import: `link`.
Never: decides which node runs which mod.
"""
