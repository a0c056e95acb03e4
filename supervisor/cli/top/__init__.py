"""``modvisor top``: the mods of a running network on a screen, with keys for what an operator does with them.

`app` and what it shows need textual (``modvisor[top]``). `columns`, `order`, `heading` and `plain` do
not: they also write the table to terminals that cannot move a cursor.
"""
