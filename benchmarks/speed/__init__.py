"""Measure how fast the network is, beside the floor of the machine and beside others.

`rows` is the table of figures and goals. `work` is the event and its answer, `plan` says how much.
`timing` holds the loops and `calibration` the meter of processor time, for everyone: `networks` uses
them for modvisor and OpenAgents, `workers` for a pipe, a pool and an actor, `floor` for a socket
pair. `serving` starts a network of ours; `ours` and `growth` measure it; `peers/` are the others.
`run` lets all take turns. `verdict` judges; `showing` and `chart` show.

`cost` compares two checkouts, with `cost_round` in each. `profiling` shows what an event calls.
"""
