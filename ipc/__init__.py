"""The wire between the network core and a mod's worker: events, messages, framing, the channel.

Knows neither networks nor mods, and imports nothing of the house.
"""

__version__ = "0.2.0"
