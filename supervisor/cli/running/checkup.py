"""``modvisor doctor``: examine this host and the network file, each also when the other one has mistakes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...cell import examine_sandboxes
from ...config import ConfigError, NetworkConfig, Problem, load_config
from ...limits import FAIL, Check, HostReport, examine_host
from ...sources import with_mod_files
from ..terminal.exits import ExitCode
from .preflight import preflight


@dataclass(frozen=True, slots=True)
class Checkup:
    """What the doctor found. ``file`` is None if no file was examined; ``problems`` are the file's mistakes."""

    report: HostReport
    file: Path | None
    problems: tuple[Problem, ...] = ()

    @property
    def status(self) -> str:
        return FAIL if self.problems else self.report.status

    @property
    def exit_code(self) -> ExitCode:
        if self.problems:
            return ExitCode.BAD_CONFIG
        return ExitCode.FAILED if self.status == FAIL else ExitCode.DONE

    def to_dict(self) -> dict[str, Any]:
        return {
            "success": self.status != FAIL,
            "file": None if self.file is None else str(self.file),
            **self.report.to_dict(),
            "status": self.status,
            "problems": [each.to_dict() for each in self.problems],
        }


def check_up(file: Path | None) -> Checkup:
    """Examine this host, and what ``file`` asks of it. Of a file with mistakes only the mistakes are reported."""
    config: NetworkConfig | None = None
    problems: tuple[Problem, ...] = ()
    if file is not None:
        try:
            config = with_mod_files(load_config(file))
        except ConfigError as error:
            problems = tuple(error.problems)
    report = examine_host(config)
    report = HostReport((*report.checks, *examine_sandboxes(config)))
    if config is not None:
        report = HostReport((*report.checks, *_stumbles(config, report)))
    return Checkup(report, file, problems)


def _stumbles(config: NetworkConfig, report: HostReport) -> Iterator[Check]:
    """Yield what a start would stumble over, besides what the host's report says of the storage already."""
    told = {check.name for check in report.checks if check.status == FAIL}
    for each in preflight(config):
        name = _STORAGE if each.key == "network.storage" else each.key
        if name not in told:
            yield Check(name, FAIL, each.message)


_STORAGE = "state directory"
