"""What a network of several nodes knows of mods besides: what a node claims and places, and what all nodes show."""
