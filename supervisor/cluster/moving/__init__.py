"""Moves what a network at rest has left into a cluster, and back: `modvisor cluster import` and `export`.

May import: all of the cluster below `cluster.py`. Imported by those commands; a node imports `mark.py` alone.
Never: runs while a node of the network does.
"""
