"""Measure how fast the network is, beside the floor of the machine and beside others, with the same work in the same run.

`rows` is the table: which figures there are, and their goals. `work` is the event and its answer, `plan` says how much.
`timing` holds the loops; `networks` (modvisor, OpenAgents) and `workers` (the floor, pipes, pools, actors) run them.
`ours`, `growth`, `floor` and `peers/` are measured; `run` lets them take turns, `verdict` judges, `showing` and `chart` show.
"""
