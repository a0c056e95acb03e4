"""The child process: one mod in one process. Needs Python and msgpack, and never imports the supervisor."""
