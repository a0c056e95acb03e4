"""Ours: whole networks, their mods in worker processes, asked through `process_event`; stats and supervision are on."""
