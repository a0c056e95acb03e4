"""What is asked of mods, and what the network does to them by itself: load, reload, swap, reconfigure, promote, upkeep."""
