"""Where the nodes of a cluster have their state on one machine. Imports nothing: the command line starts with it."""

from __future__ import annotations

NODES = "nodes"
"""The folder in ``network.storage`` that has a state folder for each node on this machine."""

CLUSTER = "cluster"
"""The folder in ``network.storage`` that has what `modvisor cluster up` keeps."""
