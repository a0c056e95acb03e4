"""What the doctor finds: on this host, and on hosts that have less."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.limits import doctor
from modvisor.supervisor.limits.doctor import FAIL, OK, WARN, Check, HostReport, examine_host
from modvisor.supervisor.limits.host import Host, group_means, rlimits
from modvisor.supervisor.limits.subtree import Hierarchy, Subtree
from modvisor.supervisor.runtime import has_uvloop

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

FOLDER = Path("/sys/fs/cgroup/app.service")
PLACE = Hierarchy(Path("/sys/fs/cgroup"), FOLDER)
ALL = Subtree(PLACE, FOLDER, ("memory", "pids", "cpu"), None)
HYBRID = Subtree(Hierarchy(Path("/sys/fs/cgroup/unified"), FOLDER), FOLDER, (), None)
NONE = Subtree(None, None, (), "no cgroup v2 is mounted here")


def by_name(report: HostReport) -> dict[str, Check]:
    return {check.name: check for check in report.checks}


def host(groups: Subtree = NONE, *, namespaces: bool = False, is_root: bool = False, can_return: bool = True) -> Host:
    return Host(
        groups=groups, is_root=is_root, namespaces=namespaces, can_return=can_return, memory=8_000_000_000,
        group_means=group_means(groups), rlimits=rlimits(namespaces),
    )  # fmt: skip


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> Callable[[Host], None]:
    return lambda made_up: monkeypatch.setattr(doctor, "look_at_host", lambda _allowed: made_up)


@pytest.fixture
def make_config(tmp_path: Path) -> Callable[..., NetworkConfig]:
    def make(limits: dict[str, Any] | None = None, **network: Any) -> NetworkConfig:
        mods = [] if limits is None else [{"path": "modvisor.mods.workspace.wiki", "limits": limits}]
        return parse_config({"network": {"name": "n", "storage": "state", **network}, "mods": mods}, base_dir=tmp_path)

    return make


# -- this host


@on_linux
def test_this_host_can_run_networks() -> None:
    report = examine_host()
    checks = by_name(report)
    assert len(checks) == len(report.checks), "every name once"
    assert report.status != FAIL
    assert {checks[name].status for name in ("python", "platform", "pidfd", "subreaper", "memfd")} == {OK}
    assert "cgroups" in checks
    assert {f"limit {key}" for key in doctor.LIMITS} <= checks.keys()
    assert all(check.remedy for check in report.checks if check.status == FAIL)
    assert json.loads(json.dumps(report.to_dict()))["checks"][0]["name"] == "python"


def test_it_says_which_event_loop_a_network_gets(
    make_config: Callable[..., NetworkConfig], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def found(**network: Any) -> Check:
        return by_name(examine_host(make_config(**network)))["event loop"]

    assert (
        found(event_loop="asyncio").text == f"asyncio of Python {platform.python_version()}, as the network file says"
    )
    if has_uvloop():
        assert found() == Check("event loop", OK, f"uvloop {importlib.metadata.version('uvloop')}")
    (tmp_path / "uvloop.py").write_text("raise ImportError('undefined symbol')")
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert found().status == WARN
    assert "uvloop cannot be imported (ImportError: undefined symbol)" in found().text
    assert "--force-reinstall uvloop" in str(found().remedy)
    assert found(event_loop="uvloop").status == FAIL


def test_it_changes_nothing(tmp_path: Path, make_config: Callable[..., NetworkConfig]) -> None:
    before = [resource.getrlimit(each) for each in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
    examine_host(make_config({"memory": "500MB"}))
    assert list(tmp_path.iterdir()) == []
    assert [resource.getrlimit(each) for each in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)] == before


def test_the_worst_check_is_the_reports_status() -> None:
    assert HostReport().status == OK
    checks = (Check("a", OK, ""), Check("b", WARN, ""))
    assert HostReport(checks).status == WARN
    assert HostReport((Check("c", FAIL, ""), *checks)).to_dict()["status"] == FAIL


# -- hosts with more and less


@on_linux
def test_a_delegated_subtree_enforces_most(on_host: Callable[[Host], None]) -> None:
    on_host(host(ALL))
    checks = by_name(examine_host())
    assert checks["cgroups"] == Check("cgroups", OK, f"{FOLDER}: memory, pids, cpu")
    assert checks["limit memory"].text == "cgroup memory.max, watchdog, RLIMIT_DATA of each process"
    assert checks["limit threads"].text == "cgroup pids.max, watchdog"
    assert checks["limit cpu"].text == "cgroup cpu.idle"
    assert checks["user namespaces"].status == OK


def test_without_a_subtree_the_remedy_is_to_delegate_one(on_host: Callable[[Host], None]) -> None:
    on_host(host(Subtree(PLACE, None, (), f"{FOLDER} is not delegated to this user")))
    check = by_name(examine_host())["cgroups"]
    assert check.status == WARN
    assert "not delegated" in check.text
    assert "Delegate=yes" in str(check.remedy)


def test_without_controllers_the_remedy_fits_the_reason(on_host: Callable[[Host], None]) -> None:
    on_host(host(HYBRID))
    check = by_name(examine_host())["cgroups"]
    assert "without the controllers memory, pids, cpu" in check.text
    assert "cgroup v1" in str(check.remedy)
    on_host(host(replace(ALL, controllers=("pids",))))
    check = by_name(examine_host())["cgroups"]
    assert "without the controllers memory, cpu" in check.text
    assert "Delegate=yes" in str(check.remedy)


def test_switched_off_is_a_choice(make_config: Callable[..., NetworkConfig]) -> None:
    check = by_name(examine_host(make_config(cgroups=False)))["cgroups"]
    assert "cgroups: false" in check.text
    assert check.remedy is None


@on_linux
def test_user_namespaces(on_host: Callable[[Host], None]) -> None:
    on_host(host(namespaces=True))
    checks = by_name(examine_host())
    assert checks["user namespaces"].status == OK
    assert checks["limit threads"].text == "RLIMIT_NPROC in a user namespace, watchdog"
    on_host(host())
    checks = by_name(examine_host())
    assert checks["user namespaces"].status == WARN
    assert "sysctl" in str(checks["user namespaces"].remedy)
    on_host(host(is_root=True))
    assert by_name(examine_host())["user namespaces"].status == OK


@on_linux
def test_a_mod_that_cannot_come_back(on_host: Callable[[Host], None]) -> None:
    on_host(host(can_return=False))
    check = by_name(examine_host())["scheduling"]
    assert check.status == WARN
    assert "CAP_SYS_NICE" in str(check.remedy)


def test_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _which: (256, resource.RLIM_INFINITY))
    check = by_name(examine_host())["open files"]
    assert check.status == WARN
    assert "256 descriptors for the network (at most no limit)" in check.text
    assert "LimitNOFILE" in str(check.remedy)


def test_a_state_directory_in_the_way_of_a_file(tmp_path: Path, make_config: Callable[..., NetworkConfig]) -> None:
    (tmp_path / "file").write_text("")
    report = examine_host(make_config(storage=str(tmp_path / "file" / "state")))
    check = by_name(report)["state directory"]
    assert (check.status, report.status) == (FAIL, FAIL)
    assert f"{tmp_path / 'file'} is a file" in check.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_that_cannot_be_written(make_config: Callable[..., NetworkConfig]) -> None:
    assert by_name(examine_host(make_config(storage="/proc/state")))["state directory"].status == FAIL


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, make_config: Callable[..., NetworkConfig]) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _path: SimpleNamespace(free=1000))
    assert by_name(examine_host(make_config()))["state directory"].status == WARN


def test_a_host_without_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (
        "modvisor.supervisor.limits.doctor",
        "modvisor.supervisor.limits.enforcement",
        "modvisor.supervisor.limits.host",
        "modvisor.supervisor.limits.subtree",
    ):
        monkeypatch.setattr(sys.modules[module].sys, "platform", "darwin")
    checks = by_name(examine_host())
    assert checks["platform"].status == WARN
    assert checks["limit cpu"] == Check("limit cpu", WARN, "NOT enforced on this host", "use Linux")
    assert checks["limit memory"].text.startswith("watchdog; ")
    monkeypatch.setattr(doctor.sys, "platform", "win32")
    assert by_name(examine_host())["platform"].status == FAIL


# -- mods


@on_linux
def test_each_mod_is_looked_at(make_config: Callable[..., NetworkConfig], on_host: Callable[[Host], None]) -> None:
    on_host(host())
    check = by_name(examine_host(make_config({"memory": "500MB", "cpu": 0.5})))["mod wiki"]
    assert check == Check("mod wiki", OK, "memory 500.0 MB, cpu 0.5, open_files 1024, processes 100, threads 500")


def test_a_mod_without_a_memory_limit(
    make_config: Callable[..., NetworkConfig], on_host: Callable[[Host], None]
) -> None:
    on_host(host())
    check = by_name(examine_host(make_config({})))["mod wiki"]
    assert check.status == WARN
    assert "all of the machine's memory" in check.text
    assert check.remedy == "set limits.memory"


def test_limits_that_cannot_hold(make_config: Callable[..., NetworkConfig], on_host: Callable[[Host], None]) -> None:
    on_host(host())
    report = examine_host(make_config({"memory": "9GB"}))
    assert "more than the machine has (8.0 GB)" in by_name(report)["mod wiki"].text
    assert by_name(report)["memory of all mods"].status == WARN


def test_more_files_than_the_user_may_have(
    make_config: Callable[..., NetworkConfig], on_host: Callable[[Host], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_host(host())
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _which: (2048, 4096))
    check = by_name(examine_host(make_config({"memory": "1GB", "open_files": 5000})))["mod wiki"]
    assert "open_files is more than this user may have (4096)" in check.text
    assert "LimitNOFILE" in str(check.remedy)


def test_a_mod_that_is_not_enabled_is_not_looked_at(tmp_path: Path) -> None:
    config = parse_config(
        {"network": {"name": "n"}, "mods": [{"path": "modvisor.mods.workspace.wiki", "enabled": False}]},
        base_dir=tmp_path,
    )
    assert "mod wiki" not in by_name(examine_host(config))


def test_spare_workers_are_said_to_take_memory(tmp_path: Path, make_config: Callable[..., NetworkConfig]) -> None:
    config = parse_config({"network": {"name": "n", "spares": 2}}, base_dir=tmp_path)
    check = by_name(examine_host(config))["spare workers"]
    assert (check.status, check.text.startswith("2 wait for a mod, with about 14.0 MB")) == (OK, True)
    assert "spare workers" not in by_name(examine_host(make_config()))
