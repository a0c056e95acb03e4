"""The processes above a worker, which see that nothing of it is left when it ends.

May import: `worker`, `ipc`. Imported by nobody: the supervisor starts it as a program.
"""
