"""A mod as an event finds it: with one worker or several here, on another node, or in copies on several nodes."""
