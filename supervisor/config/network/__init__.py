"""The whole network file, ours and that of OpenAgents; and what a change of each key does to a network that runs."""
