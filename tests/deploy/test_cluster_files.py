"""The files of `deploy/cluster/` agree with the code, with each other, and with the schemas of those who read them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from modvisor.supervisor.cluster.link.embedded import find_program
from modvisor.supervisor.config import NetworkConfig, load_config, parse_config

from .debian import ROOT, run

CLUSTER = ROOT / "deploy" / "cluster"
SECRETS = {"NATS_PASSWORD": "9f41c7d2b0a85e63f7d41c7d", "CLUSTER_SECRET": "ea1c5a9145c8606059e0a4c4"}
KUBERNETES = "1.31"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def composed() -> dict[str, Any]:
    return yaml.safe_load((CLUSTER / "compose.yaml").read_text())


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text()))


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests() if each["kind"] == kind]


def config_map() -> NetworkConfig:
    text = of_kind("ConfigMap")[0]["data"]["network.yaml"]
    return parse_config(yaml.safe_load(text), base_dir=Path("/etc/modvisor"))


# -- compose


def test_compose_is_as_its_schema_wants_it() -> None:
    schema = json.loads((Path(__file__).parent / "compose_spec.json").read_text())
    jsonschema.Draft7Validator(schema).validate(composed())


def test_three_servers_and_three_nodes_are_one_cluster() -> None:
    services = composed()["services"]
    config = load_config(CLUSTER / "network.yaml", node="node-1")
    assert config.cluster is not None
    hosts = [url.removeprefix("nats://").partition(":")[0] for url in config.cluster.servers]
    assert hosts == [name for name in services if name.startswith("nats-")]
    assert config.cluster.replicas == 3
    nodes = {name: service for name, service in services.items() if name.startswith("node-")}
    assert {name: each["environment"]["MODVISOR_NODE"] for name, each in nodes.items()} == {
        name: name for name in nodes
    }
    assert len(nodes) == 3
    for each in nodes.values():
        assert set(SECRETS) <= each["environment"].keys()
        assert each["build"]["args"] == {"EXTRAS": "[cluster]"}


def test_no_part_has_more_rights_than_it_needs_and_each_has_its_own_data() -> None:
    data = composed()
    for service in data["services"].values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    kept = [volume.partition(":")[0] for service in data["services"].values() for volume in service["volumes"][1:]]
    assert sorted(kept) == sorted(data["volumes"])


def test_a_node_has_time_to_hand_over_its_mods() -> None:
    """Drain, then what a network needs to end anyway."""
    assert {each["stop_grace_period"] for name, each in composed()["services"].items() if "node" in name} == {"120s"}
    assert of_kind("StatefulSet")[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 120


def test_the_server_reads_its_file_and_writes_before_it_acknowledges(tmp_path: Path) -> None:
    text = (CLUSTER / "nats.conf").read_text()
    assert "sync_interval: always" in text
    assert all(f"nats://{name}:6222" in text for name in composed()["services"] if name.startswith("nats-"))
    (tmp_path / "nats.conf").write_text(text.replace("/data", str(tmp_path / "data")))
    environ = {**os.environ, "NAME": "nats-1", "PASSWORD": SECRETS["NATS_PASSWORD"]}
    command = [find_program(), "--config", str(tmp_path / "nats.conf"), "-t"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    assert "is valid" in done.stderr + done.stdout


# -- Kubernetes


def test_the_manifests_name_what_they_use() -> None:
    (stateful,), services = of_kind("StatefulSet"), of_kind("Service")
    (budget,) = of_kind("PodDisruptionBudget")
    spec = stateful["spec"]
    labels = spec["selector"]["matchLabels"]
    assert labels == spec["template"]["metadata"]["labels"] == budget["spec"]["selector"]["matchLabels"]
    assert all(each["spec"]["selector"] == labels for each in services)
    (headless,) = [each for each in services if each["spec"].get("clusterIP") == "None"]
    assert spec["serviceName"] == headless["metadata"]["name"]
    assert (spec["replicas"], budget["spec"]["maxUnavailable"]) == (3, 1)
    (container,) = spec["template"]["spec"]["containers"]
    named = {each["name"]: each["valueFrom"] for each in container["env"]}
    assert named["MODVISOR_NODE"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert set(SECRETS) == named.keys() - {"MODVISOR_NODE"}


def test_the_networks_of_compose_and_kubernetes_differ_in_their_servers_alone() -> None:
    here, there = load_config(CLUSTER / "network.yaml", node="x"), config_map()
    assert here.cluster is not None
    assert there.cluster is not None
    assert here.mods == there.mods
    assert (here.storage.parents[1], here.port) == (there.storage.parents[1], there.port)
    for key in ("secret", "password", "user", "replicas", "wait", "lease"):
        assert getattr(here.cluster, key) == getattr(there.cluster, key), key


def test_a_pod_that_is_cut_off_is_not_killed_and_gets_no_agents() -> None:
    (container,) = of_kind("StatefulSet")[0]["spec"]["template"]["spec"]["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.slow
def test_kubernetes_takes_the_manifests() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="make deploy-test installs it").validate
    for manifest in manifests():
        assert validate(manifest, KUBERNETES, strict=True) == KUBERNETES


# -- systemd


def settings(file: Path) -> RawConfigParser:
    found = RawConfigParser(strict=True)
    found.optionxform = str  # type: ignore[assignment]
    found.read(file)
    return found


def test_the_drop_in_gives_the_unit_the_secrets_and_the_time_that_a_node_needs() -> None:
    drop_in = settings(CLUSTER / "systemd" / "modvisor.service.d-cluster.conf")
    assert drop_in["Service"]["TimeoutStopSec"] == "120"
    assert drop_in["Service"]["EnvironmentFile"] == "/etc/modvisor/cluster.env"
    assert drop_in["Unit"]["After"] == "nats-server.service"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "systemd" / "system"
    (folder / "modvisor.service.d").mkdir(parents=True)
    shutil.copy(CLUSTER / "systemd" / "nats-server.service", folder)
    shutil.copy(ROOT / "deploy" / "systemd" / "modvisor.service", folder)
    shutil.copy(CLUSTER / "systemd" / "modvisor.service.d-cluster.conf", folder / "modvisor.service.d" / "cluster.conf")
    for program in ("usr/bin/nats-server", "opt/modvisor/bin/modvisor", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    for target in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
        (folder / f"{target}.target").write_text("[Unit]\nDescription=a target\n")
    said = run("systemd-analyze", "verify", "--man=no", f"--root={tmp_path}", "nats-server.service", "modvisor.service")
    assert [line for line in said.splitlines() if "nats-server" in line or "modvisor" in line] == []
