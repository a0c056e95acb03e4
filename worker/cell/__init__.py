"""Confine a worker to its cell (`ipc.cell`): what its mod may reach, enforced by the kernel.

The guardian makes the warden in new namespaces (`namespaces`), and the warden the mounts (`files`).
All else happens in the process that becomes the worker, before any code of the mod runs in it, and in
an order in which each step still may do what the later ones forbid (`apply`): it waits for the mounts,
then come user, capabilities, Landlock, system calls.
A forked worker does it at its `load`; for every other the warden does it between fork and exec, so
that it holds for programs in any language, too.

Linux only. ctypes and the standard library; imported in the guardian, once for all workers.
"""
