"""What may be said of a mod: its entry in the network file, its `mod.yaml`, and the sections within an entry."""
