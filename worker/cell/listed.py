"""What every mod in a strict cell sees of the machine besides its own: enough to run Python and libraries.

No file here holds a secret or the name of a person, and none is written but the devices. The folders
of Python and of the mod come with the cell (`supervisor.cell.readable`).
"""

from __future__ import annotations

SYSTEM = (
    b"/usr", b"/lib", b"/lib32", b"/lib64", b"/libx32", b"/bin", b"/sbin", b"/opt", b"/nix/store", b"/gnu/store",
    b"/etc/alternatives", b"/etc/fonts", b"/etc/gai.conf", b"/etc/host.conf", b"/etc/hosts", b"/etc/ld.so.cache",
    b"/etc/ld.so.conf", b"/etc/ld.so.conf.d", b"/etc/localtime", b"/etc/magic", b"/etc/mime.types",
    b"/etc/nsswitch.conf", b"/etc/pki/tls/certs", b"/etc/pki/ca-trust", b"/etc/protocols", b"/etc/services",
    b"/etc/ssl/cert.pem", b"/etc/ssl/certs", b"/etc/ssl/openssl.cnf", b"/etc/timezone", b"/etc/OpenCL",
    b"/sys/devices/system", b"/sys/kernel/mm/transparent_hugepage", b"/sys/fs/cgroup/cgroup.controllers",
)  # fmt: skip
"""Read, and run if the cell allows that. What a machine lacks is left out."""

PROC = b"/proc/cpuinfo", b"/proc/meminfo", b"/proc/stat", b"/proc/uptime", b"/proc/sys/vm/overcommit_memory"
"""Read where the mod has no ``/proc`` of its own."""

DEVICES = (b"/dev/null", b"/dev/zero", b"/dev/full", b"/dev/random", b"/dev/urandom")

SHARED = b"/dev/shm"
TMP = b"/tmp"
WRITTEN = SHARED, TMP
"""Folders of the mod's own, made empty for it; they vanish with it."""

LINKS = {b"/dev/fd": b"/proc/self/fd", b"/dev/stdin": b"fd/0", b"/dev/stdout": b"fd/1", b"/dev/stderr": b"fd/2"}
