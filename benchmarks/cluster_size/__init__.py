"""How large a cluster can be, on paper: traffic and memory of the mirrors per node, and what breaks first.

    python -m benchmarks.cluster_size                       # 100 nodes, 10,000 mods, 100,000 agents
    python -m benchmarks.cluster_size --nodes 10 --mods 500 --agents 5000
    python -m benchmarks.cluster_size --check               # a small cluster, counted, beside its prediction

The constants are measured, with a real server, the sealed values that nodes write and the
watches that nodes have: bytes and processor time of a change, memory of an entry, writes per second.
`--check` runs mirrors of a small cluster and compares what the server counts with what the model
says. Processor time is scaled by the fixed job of `benchmarks.speed`.
"""
