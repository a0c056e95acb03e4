"""Which system calls a mod may make: the numbers of the calls, and two lists of rules.

`GUARDED` is for every mod in a cell: it refuses a few calls by which a mod could harm others in spite
of all namespaces, and which hardly any program makes. `LISTED` is for strict cells: it allows what is
named in `_NUMBERS` and refuses all else: mounts, ptrace and the memory of other processes, bpf,
performance counters, modules, clocks, NUMA, kernel keys. Its model is Docker's default profile
(github.com/moby/profiles), without what that one gives to containers with capabilities.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterable
from functools import lru_cache

from .bpf import ALLOW, BITS, IS, IS_NOT, MACHINES, Refusal, Rule, Test, program, refuse

_NUMBERS = """
accept:43:202 accept4:288:242 access:21: add_key:248:217 alarm:37: arch_prctl:158: bind:49:200 brk:12:214
cachestat:451:451 capget:125:90 capset:126:91 chdir:80:49 chmod:90: chown:92: clock_getres:229:114
clock_gettime:228:113 clock_nanosleep:230:115 clone:56:220 clone3:435:435 close:3:57 close_range:436:436
connect:42:203 copy_file_range:326:285 creat:85: dup:32:23 dup2:33: dup3:292:24 epoll_create:213: epoll_create1:291:20
epoll_ctl:233:21 epoll_pwait:281:22 epoll_pwait2:441:441 epoll_wait:232: eventfd:284: eventfd2:290:19 execve:59:221
execveat:322:281 exit:60:93 exit_group:231:94 faccessat:269:48 faccessat2:439:439 fadvise64:221:223 fallocate:285:47
fchdir:81:50 fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 fchown:93:55 fchownat:260:54 fcntl:72:25 fdatasync:75:83
fgetxattr:193:10 flistxattr:196:13 flock:73:32 fork:57: fremovexattr:199:16 fsetxattr:190:7 fstat:5:80 fstatfs:138:44
fsync:74:82 ftruncate:77:46 futex:202:98 futex_requeue:456:456 futex_wait:455:455 futex_waitv:449:449
futex_wake:454:454 futimesat:261: get_mempolicy:239:236 get_robust_list:274:100 getcpu:309:168 getcwd:79:17
getdents:78: getdents64:217:61 getegid:108:177 geteuid:107:175 getgid:104:176 getgroups:115:158 getitimer:36:102
getpeername:52:205 getpgid:121:155 getpgrp:111: getpid:39:172 getppid:110:173 getpriority:140:141 getrandom:318:278
getresgid:120:150 getresuid:118:148 getrlimit:97:163 getrusage:98:165 getsid:124:156 getsockname:51:204
getsockopt:55:209 gettid:186:178 gettimeofday:96:169 getuid:102:174 getxattr:191:8 getxattrat:464:464
inotify_add_watch:254:27 inotify_init:253: inotify_init1:294:26 inotify_rm_watch:255:28 io_cancel:210:3
io_destroy:207:1 io_getevents:208:4 io_pgetevents:333:292 io_setup:206:0 io_submit:209:2 io_uring_enter:426:426
io_uring_register:427:427 io_uring_setup:425:425 ioctl:16:29 ioprio_get:252:31 ioprio_set:251:30 keyctl:250:219
kill:62:129 landlock_add_rule:445:445 landlock_create_ruleset:444:444 landlock_restrict_self:446:446 lchown:94:
lgetxattr:192:9 link:86: linkat:265:37 listen:50:201 listxattr:194:11 listxattrat:465:465 llistxattr:195:12
lremovexattr:198:15 lseek:8:62 lsetxattr:189:6 lstat:6: madvise:28:233 map_shadow_stack:453:453 membarrier:324:283
memfd_create:319:279 mincore:27:232 mkdir:83: mkdirat:258:34 mknod:133: mknodat:259:33 mlock:149:228 mlock2:325:284
mlockall:151:230 mmap:9:222 mprotect:10:226 mq_getsetattr:245:185 mq_notify:244:184 mq_open:240:180
mq_timedreceive:243:183 mq_timedsend:242:182 mq_unlink:241:181 mremap:25:216 mseal:462:462 msgctl:71:187 msgget:68:186
msgrcv:70:188 msgsnd:69:189 msync:26:227 munlock:150:229 munlockall:152:231 munmap:11:215 nanosleep:35:101
newfstatat:262:79 open:2: openat:257:56 openat2:437:437 pause:34: personality:135:92 pidfd_open:434:434
pidfd_send_signal:424:424 pipe:22: pipe2:293:59 pkey_alloc:330:289 pkey_free:331:290 pkey_mprotect:329:288 poll:7:
ppoll:271:73 prctl:157:167 pread64:17:67 preadv:295:69 preadv2:327:286 prlimit64:302:261 pselect6:270:72
pwrite64:18:68 pwritev:296:70 pwritev2:328:287 read:0:63 readahead:187:213 readlink:89: readlinkat:267:78 readv:19:65
recvfrom:45:207 recvmmsg:299:243 recvmsg:47:212 removexattr:197:14 removexattrat:466:466 rename:82: renameat:264:38
renameat2:316:276 request_key:249:218 restart_syscall:219:128 rmdir:84: rseq:334:293 rt_sigaction:13:134
rt_sigpending:127:136 rt_sigprocmask:14:135 rt_sigqueueinfo:129:138 rt_sigreturn:15:139 rt_sigsuspend:130:133
rt_sigtimedwait:128:137 rt_tgsigqueueinfo:297:240 sched_get_priority_max:146:125 sched_get_priority_min:147:126
sched_getaffinity:204:123 sched_getattr:315:275 sched_getparam:143:121 sched_getscheduler:145:120
sched_rr_get_interval:148:127 sched_setaffinity:203:122 sched_setattr:314:274 sched_setparam:142:118
sched_setscheduler:144:119 sched_yield:24:124 seccomp:317:277 select:23: semctl:66:191 semget:64:190 semop:65:193
semtimedop:220:192 sendfile:40:71 sendmmsg:307:269 sendmsg:46:211 sendto:44:206 set_robust_list:273:99
set_tid_address:218:96 setfsgid:123:152 setfsuid:122:151 setgid:106:144 setgroups:116:159 setitimer:38:103
setns:308:268 setpgid:109:154 setpriority:141:140 setregid:114:143 setresgid:119:149 setresuid:117:147
setreuid:113:145 setrlimit:160:164 setsid:112:157 setsockopt:54:208 setuid:105:146 setxattr:188:5 setxattrat:463:463
shmat:30:196 shmctl:31:195 shmdt:67:197 shmget:29:194 shutdown:48:210 sigaltstack:131:132 signalfd:282:
signalfd4:289:74 socket:41:198 socketpair:53:199 splice:275:76 stat:4: statfs:137:43 statx:332:291 symlink:88:
symlinkat:266:36 sync:162:81 sync_file_range:277:84 syncfs:306:267 sysinfo:99:179 tee:276:77 tgkill:234:131 time:201:
timer_create:222:107 timer_delete:226:111 timer_getoverrun:225:109 timer_gettime:224:108 timer_settime:223:110
timerfd_create:283:85 timerfd_gettime:287:87 timerfd_settime:286:86 times:100:153 tkill:200:130 truncate:76:45
umask:95:166 uname:63:160 unlink:87: unlinkat:263:35 unshare:272:97 utime:132: utimensat:280:88 utimes:235: vfork:58:
vmsplice:278:75 wait4:61:260 waitid:247:95 write:1:64 writev:20:66
"""
"""The calls that are allowed or asked about, each as ``name:x86_64:aarch64``. Those that only one of
the machines has lack a number."""

NEWEST = 469
"""The highest number of any call when the list was made. Newer calls fail as on an older kernel."""

_NEW_NAMESPACES = 0x7E02_0080  # CLONE_NEWTIME|NEWNS|NEWCGROUP|NEWUTS|NEWIPC|NEWUSER|NEWPID|NEWNET
_NEW_USER = 0x1000_0000
_TIME = 0x80  # in clone(2) these bits are the signal at the end, never a namespace
_SPECIAL = stat.S_ISUID | stat.S_ISGID
_CREATES = os.O_CREAT | (getattr(os, "O_TMPFILE", 0) & ~getattr(os, "O_DIRECTORY", 0))
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_NETLINK, _ROUTE = 16, 0
_FAMILIES = int(socket.AF_UNIX), int(socket.AF_INET), int(socket.AF_INET6), _NETLINK
_PERSONALITIES = 0, 8, 0x20000, 0x20008, 0xFFFF_FFFF  # Linux, its 32-bit layout, UNAME26, both; ask

_NEVER: Rule = (Refusal(errno.EPERM),)
_UNKNOWN: Rule = (Refusal(errno.ENOSYS),)


def _if(*tests: Test, error: int = errno.EPERM) -> Rule:
    return (Refusal(error, tests),)


def _mode(argument: int, flags: int | None = None) -> Rule:
    """Refuse to make a file that gives its owner's rights to who runs it."""
    special = Test(argument, BITS, _SPECIAL)
    return _if(special) if flags is None else _if(Test(flags, BITS, _CREATES), special)


_GUARDED: dict[str, Rule] = {
    # setuid and setgid files: another user of the machine who runs one has the rights of ours
    "chmod": _mode(1), "fchmod": _mode(1), "fchmodat": _mode(2), "fchmodat2": _mode(2), "creat": _mode(1),
    "mkdir": _mode(1), "mkdirat": _mode(2), "mknod": _mode(1), "mknodat": _mode(2), "open": _mode(2, flags=1),
    "openat": _mode(3, flags=2),
    "openat2": _UNKNOWN,  # its mode lies in memory, where a filter cannot look
    # capabilities again, within a user namespace: in it, mode bits mean nothing, and much of the kernel is within reach
    "unshare": _if(Test(0, BITS, _NEW_USER)), "clone": _if(Test(0, BITS, _NEW_USER)),
    "clone3": _UNKNOWN,  # the same; the C library then takes clone
    # keys of the user, which all mods share
    "add_key": _NEVER, "request_key": _NEVER, "keyctl": _NEVER,
    # what is done through it passes no filter
    "io_uring_setup": _UNKNOWN, "io_uring_enter": _UNKNOWN, "io_uring_register": _UNKNOWN,
    # typing on a terminal
    "ioctl": (*_if(Test(1, IS, _TIOCSTI)), *_if(Test(1, IS, _TIOCLINUX))),
}  # fmt: skip
"""Rules for every mod in a cell."""

_STRICT: dict[str, Rule] = {
    "unshare": _NEVER,
    "setns": _NEVER,
    "clone": _if(Test(0, BITS, _NEW_NAMESPACES & ~_TIME)),
    # a socket of another family passes a network namespace by (vsock, Bluetooth), or is a door to the kernel
    "socket": (
        *_if(*(Test(0, IS_NOT, family) for family in _FAMILIES), error=errno.EAFNOSUPPORT),
        *_if(Test(0, IS, _NETLINK), Test(2, IS_NOT, _ROUTE)),
    ),
    "socketpair": _if(Test(0, IS_NOT, int(socket.AF_UNIX)), error=errno.EAFNOSUPPORT),
    "personality": _if(*(Test(0, IS_NOT, value) for value in _PERSONALITIES)),
}
"""Rules for strict cells, besides those above."""

_SHARED = (
    "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget",
    "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
)  # fmt: skip
"""Memory and queues that all processes of a user share, unless the mod has an IPC namespace."""


@lru_cache(maxsize=8)  # filled in the guardian, shared by all workers that it forks
def guarded(machine: str, *, may_exec: bool, only: int = -1) -> bytes:
    """Return the filter that refuses what harms others. See `_exec` for the last two arguments."""
    rules = {**_GUARDED, **_exec(may_exec, only)}
    return program(MACHINES[machine], _by_number(machine, rules), [(0, ALLOW)])


@lru_cache(maxsize=8)
def listed(machine: str, *, may_exec: bool, only: int = -1, may_share: bool = True) -> bytes:
    """Return the filter that allows the usual calls alone.

    Args:
        may_share: whether to allow System V and POSIX memory, semaphores and queues.
    """
    rules = {**_GUARDED, **_STRICT, **_exec(may_exec, only)}
    allowed = {number for name, number in numbers(machine).items() if may_share or name not in _SHARED}
    return program(MACHINES[machine], _by_number(machine, rules), _ranges(allowed))


@lru_cache(maxsize=8)
def without_exec(machine: str, *, only: int = -1) -> bytes:
    """Return the filter that refuses to start programs, and nothing else."""
    return program(MACHINES[machine], _by_number(machine, _exec(False, only)), [(0, ALLOW)])


def _exec(may_exec: bool, only: int) -> dict[str, Rule]:
    """Return the rules for exec(2).

    Args:
        may_exec: whether programs may be started.
        only: if not: a descriptor whose program may be started nevertheless; -1: none.
    """
    if may_exec:
        return {}
    return {"execve": _NEVER, "execveat": _NEVER if only < 0 else _if(Test(0, IS_NOT, only))}


def _ranges(allowed: Iterable[int]) -> list[tuple[int, int]]:
    ranges = {0: refuse(errno.EPERM), NEWEST + 1: refuse(errno.ENOSYS)}
    for number in sorted(allowed):
        ranges[number] = ALLOW
        ranges.setdefault(number + 1, refuse(errno.EPERM))
    return sorted(ranges.items())


def _by_number(machine: str, rules: dict[str, Rule]) -> dict[int, Rule]:
    known = numbers(machine)
    return {known[name]: rule for name, rule in rules.items() if name in known}


@lru_cache(maxsize=2)
def numbers(machine: str) -> dict[str, int]:
    """Return the calls of `_NUMBERS` that a machine has, by name."""
    column = 1 + list(MACHINES).index(machine)
    split = (entry.split(":") for entry in _NUMBERS.split())
    return {words[0]: int(words[column]) for words in split if words[column]}
