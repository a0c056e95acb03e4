"""Twenty mods under steady load, ten of which misbehave in every way there is; what was promised is counted afterwards.

`schedule` says who does what when, from the seed alone; the mods (``mods/player``) do it, or `outside` does it to them; `load`
sends the events and `ledger` keeps account of them; `diaries` are what the mods say happened; `census` counts what must not
be left over. `run` puts it together and `audit` finds what is wrong.
"""
