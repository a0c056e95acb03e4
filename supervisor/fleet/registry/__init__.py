"""Which mods there are, in which order, who needs whom, which version has which sources, and the routes that follow."""
