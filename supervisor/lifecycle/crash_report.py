"""The crash report of an incarnation, put together at the moment of its end."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict
from typing import Any

from ..process import REPORTED_LINES, Cause, CrashReport, Exit, ModLog, crash_cause, crash_detail, last_traceback
from .incarnation import Incarnation, StartFailed


def report_of_end(incarnation: Incarnation, exit: Exit, resources: dict[str, Any] | None) -> CrashReport:
    """Crash report of an incarnation that ended.

    Args:
        resources: the newest sample of what the incarnation used.
    """
    log = incarnation.log.tail(REPORTED_LINES)
    cause, reason = crash_cause(exit, incarnation.end_cause), incarnation.end_reason
    unexpected = exit.signal == signal.SIGKILL and reason is None
    if unexpected and (verdict := incarnation.limits_in_force.oom.verdict()):
        cause, reason = Cause.OUT_OF_MEMORY, verdict
    return CrashReport(
        mod_id=incarnation.mod_id,
        version=incarnation.manifest.version if incarnation.manifest is not None else None,
        incarnation=incarnation.number,
        pid=incarnation.pid,
        at=time.time(),
        uptime=round(incarnation.uptime, 3),
        cause=cause,
        detail=crash_detail(exit, reason, incarnation.config.limits.cpu_seconds),
        traceback=incarnation.process.stack_dump().rstrip() or last_traceback(log),
        log=log,
        in_flight=incarnation.lost_events,
        in_flight_count=incarnation.lost_count,
        resources=resources,
        usage=None if exit.usage is None else asdict(exit.usage),
    )


def report_of_start(mod_id: str, number: int, error: StartFailed, log: ModLog) -> CrashReport:
    """Crash report of an incarnation that failed to start."""
    return CrashReport(
        mod_id=mod_id, version=None, incarnation=number, pid=None, at=time.time(), uptime=0.0,
        cause=Cause.START_FAILURE, detail=str(error), traceback=error.details.get("traceback"),
        log=log.tail(REPORTED_LINES), in_flight=[], in_flight_count=0,
    )  # fmt: skip
