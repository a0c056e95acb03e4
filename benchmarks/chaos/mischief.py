"""The table of misbehaviours: causes in a crash report, whether the mod must end, how often."""

from __future__ import annotations

from dataclasses import dataclass

from modvisor.supervisor.process.crashes import Cause

NOW, SOON, THREAD = "now", "soon", "thread"
"""When a mod does it: in the handler before the answer, a moment later, or in a thread."""

EXITED, SIGNAL, HANG, STOPPED, LIMIT, LIE, START = (
    Cause.EXITED, Cause.SIGNAL, Cause.HANG, Cause.STOPPED, Cause.LIMIT_HIT, Cause.PROTOCOL_VIOLATION, Cause.START_FAILURE,
)  # fmt: skip
MEMORY = Cause.OUT_OF_MEMORY
"""Causes that an unexplained SIGKILL may get while the kernel kills others for memory."""


@dataclass(frozen=True, slots=True)
class Mischief:
    """One way to misbehave.

    Attributes:
        causes: the causes that the crash report of an incarnation that did this may name.
        ends: whether the incarnation must end by it.
        hows: the ways in which a mod may do it; empty if it is done to the mod from outside.
        weight: how often it is done, relative to the others.
        act: the player's name for it, if that is another.
        once: a retry of the event does not repeat it; otherwise the event is poison.
    """

    causes: frozenset[Cause]
    ends: bool
    hows: tuple[str, ...]
    weight: int = 2
    act: str | None = None
    once: bool = True


def _ends(*causes: Cause, how: tuple[str, ...] = (NOW, SOON, THREAD), **more: int) -> Mischief:
    return Mischief(frozenset(causes), True, how, **more)


def _may_end(*causes: Cause, how: tuple[str, ...] = (NOW, SOON), **more: int) -> Mischief:
    return Mischief(frozenset(causes), False, how, **more)


def _poison(act: str, *causes: Cause) -> Mischief:
    return Mischief(frozenset(causes), True, (NOW,), 2, act, once=False)


INSIDE: dict[str, Mischief] = {
    # ends
    "exit_with_code": _ends(EXITED),
    "exit_cleanly": _ends(EXITED),
    "exit_from_loop": _may_end(how=(NOW, SOON, THREAD)),
    "exit_in_thread": _may_end(),
    "segfault": _ends(SIGNAL),
    "abort": _ends(SIGNAL),
    "signal_self": _ends(SIGNAL, MEMORY, how=(NOW, SOON)),
    "kill_group": _ends(SIGNAL, MEMORY),
    "interrupt": _ends(SIGNAL, EXITED, how=(NOW, SOON)),
    "cancel_everything": _may_end(EXITED, how=(NOW, SOON, THREAD)),
    "bad_starts": _ends(EXITED, START, weight=3),
    "poison_exit": _poison("exit_with_code", EXITED),
    "poison_segfault": _poison("segfault", SIGNAL),
    "poison_block": _poison("block", HANG),
    # blocks
    "block": _ends(HANG, how=(NOW, SOON)),
    "spin": _ends(HANG, how=(NOW, SOON)),
    "hold_the_gil": _ends(HANG),
    "stop_self": _ends(STOPPED, HANG),
    "spin_in_thread": _may_end(),
    # uses too much
    "leak": _may_end(LIMIT),
    "leak_shared": _ends(LIMIT, how=(NOW, SOON)),
    "ten_gigabytes": _may_end(),
    "fork_bomb": _ends(LIMIT, how=(NOW, SOON)),
    "thread_leak": _ends(LIMIT, how=(NOW, SOON)),
    "descriptor_leak": _may_end(),
    "log_flood": _may_end(HANG, how=(NOW, SOON, THREAD)),
    "emit": _may_end(weight=1),
    "ask_and_die": _ends(EXITED, how=(NOW, SOON)),
    "big_file": _may_end(),
    # breaks the protocol of the pipe
    "garbage": _ends(LIE),
    "wrong_message": _ends(LIE),
    "oversized_frame": _ends(LIE),
    "half_a_frame": _ends(LIE, HANG),
    "half_a_frame_then_death": _ends(EXITED),
    "answer_twice": _ends(LIE, how=(NOW,)),
    "answer_unasked": _ends(LIE),
    "ask_without_end": _may_end(EXITED),  # the worker did not send these requests, so their answers break the protocol
    "close_pipe": _ends(EXITED),
    "shut_pipe": _ends(EXITED),
    "swap_pipe": _ends(EXITED),
    "close_everything": _ends(EXITED),
    "close_output": _may_end(),
    "read_no_more": _ends(HANG),
    # answers badly
    "raise_error": _may_end(weight=1),
    "recurse": _may_end(how=(NOW,), weight=1),
    "cancel_itself": _may_end(how=(NOW,), weight=1),
    "wrong_answer": _may_end(how=(NOW,), weight=1),
    "huge_answer": _may_end(how=(NOW,), weight=1),
    "late_answer": _may_end(how=(NOW,)),
    "late_thread": _may_end(how=(NOW,)),
    # leaves processes behind, or attacks the processes above it
    "stubborn": _may_end(how=(NOW,)),
    "leave_grandchild": _may_end(),
    "leave_children": _ends(EXITED),
    "start_child": _may_end(),
    "stop_its_warden": _may_end(EXITED, how=(NOW,), weight=1),
    "kill_its_warden": _ends(SIGNAL, MEMORY, how=(NOW,), weight=1),
}

OUTSIDE: dict[str, Mischief] = {
    "kill_worker": Mischief(frozenset({SIGNAL, MEMORY}), True, (), 3),
    "stop_worker": Mischief(frozenset({STOPPED, HANG}), True, (), 2),
    "terminate_worker": Mischief(frozenset({SIGNAL}), False, (), 1),
    "kill_warden": Mischief(frozenset({SIGNAL, MEMORY}), True, (), 1),
    "restart": Mischief(frozenset(), False, (), 2),
    "reload": Mischief(frozenset(), False, (), 2),
    "unload": Mischief(frozenset(), False, (), 2),  # and load it again
}

BELOW = ("kill_guardian", "stop_guardian", "kill_starting")
"""Done to the guardian, and to a worker that does not serve yet. No steady mod may notice."""

TABLE = INSIDE | OUTSIDE
