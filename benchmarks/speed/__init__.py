"""How fast the network is, beside the floor of the machine and beside others that do the same work in the same run.

`work` is the event and its answer, `timing` the loops that measure, `plan` how much. `floor`, `ours/` and `peers/` are who is
measured; `rounds` has them take turns. `rows` says which figures there are and what their goals are, `verdict` whether they
are met; `table`, `page` and `charts` show it, `record` keeps it.
"""
