"""The processes above a worker, which see to it that nothing of it is left when it ends.

`__main__` is the guardian, which forks; `warden` is the parent of one worker; `forked` turns a fork
into a worker; `tree` finds and kills processes; `clone` holds calls of Linux that Python lacks.

May import: `worker`, `ipc`. Imported by nobody: the supervisor starts it as a program.
"""
