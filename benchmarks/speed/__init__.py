"""Measure how fast the network is, beside the floor of the machine and beside others.

`rows` is the table of figures and goals. `work` is the event and its answer, `plan` says how much.
`timing` holds the loops, for everyone: `networks` runs them for modvisor and OpenAgents, `workers`
for a pipe, a pool and an actor, `floor` for a socket pair. `ours` and `growth` measure modvisor,
and `peers/` are the others. `run` lets all take turns.
`verdict` judges; `showing` and `chart` show.
"""
