"""The child process: one mod in one process. Dependents Python and msgpack, and never imports the supervisor."""
