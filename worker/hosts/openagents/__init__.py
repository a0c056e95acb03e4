"""Hosts mods of OpenAgents, unmodified: each sees a network of its own kind, and a worker sees a mod of ours.

`host` makes a `Guest` of the class, `guest` is the `BaseMod` whose methods call theirs, `network` is
what their mod sees of its network, `mirror` and `channels` hold what it may ask without waiting,
`tellings` tells it of agents, `events` translates, `state` carries what it holds to its successor.

May import: `worker.hosts`, `mods`, `ipc`, and openagents. Only a worker with such a mod imports it.
"""
