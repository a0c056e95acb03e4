"""The worker: one mod in one process, served on one socket.

May import: `mods`, `ipc`. Needs Python and msgpack, and nothing else. Never imports the supervisor
or `worker.guardian`.
"""
