"""The wire between the network core and a mod's worker: events, messages, framing, the pipe.

May import: nothing of the house. Knows neither networks nor mods.
"""

__version__ = "0.8.0"
