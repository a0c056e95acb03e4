"""The network in this process: checked, started, made ready, told to its service manager, ended."""
