"""Put twenty mods under steady load, let ten of them misbehave, and count what became of all.

`schedule` decides from the seed alone who does what and when. The mods (``mods/player``) do it, or
`outside` does it to them. `load` sends the events, `ledger` accounts for them, and `diaries` read
what the mods say. `census` counts leftovers. `run` puts it together; `audit` finds what is wrong.
"""
