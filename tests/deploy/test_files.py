"""The files of `deploy/` agree with the code and with each other."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import yaml

from modvisor.supervisor.cli.terminal.exits import ExitCode
from modvisor.supervisor.config import NetworkConfig, load_config, parse_config

DEPLOY = Path(__file__).parents[2] / "deploy"
STATE = "/var/lib/modvisor"


def unit() -> RawConfigParser:
    found = RawConfigParser(strict=True)
    found.optionxform = str  # type: ignore[assignment]
    found.read(DEPLOY / "systemd" / "modvisor.service")
    return found


def manifests() -> dict[str, Any]:
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "modvisor.yaml").read_text()))
    return {document["kind"]: document for document in documents}


def instructions() -> list[tuple[str, str]]:
    """The lines of the Dockerfile."""
    text = (DEPLOY / "container" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def config_map() -> NetworkConfig:
    text = manifests()["ConfigMap"]["data"]["network.yaml"]
    return parse_config(yaml.safe_load(text), base_dir=Path("/etc/modvisor"))


NETWORKS = {
    "systemd": lambda: load_config(DEPLOY / "systemd" / "network.yaml"),
    "container": lambda: load_config(DEPLOY / "container" / "network.yaml"),
    "kubernetes": config_map,
}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_file_is_without_mistakes_and_keeps_its_state_where_there_is_room(network: str) -> None:
    config = NETWORKS[network]()
    assert (str(config.storage), config.port) == (STATE, 8700)
    assert (config.host, config.insecure) == (("127.0.0.1", False) if network == "systemd" else ("0.0.0.0", True))


def test_the_unit_starts_the_network_that_it_makes_room_for() -> None:
    service = unit()["Service"]
    assert service["ExecStart"].split()[1:] == ["run", "--file", "/etc/modvisor/network.yaml"]
    assert service["ExecReload"].split()[1:] == ["reconfigure", "--file", "/etc/modvisor/network.yaml"]
    assert f"/var/lib/{service['StateDirectory']}" == STATE
    assert service["Type"] == "notify"
    assert (DEPLOY / "systemd" / "modvisor.sysusers").read_text().splitlines()[-1].split()[1] == service["User"]


def test_the_unit_does_not_start_again_what_would_fail_again() -> None:
    codes = {ExitCode(int(code)) for code in unit()["Service"]["RestartPreventExitStatus"].split()}
    assert codes == {ExitCode.BAD_CONFIG, ExitCode.ALREADY_RUNNING}


def test_the_unit_leaves_mods_their_cells_and_cgroups() -> None:
    service = unit()["Service"]
    taken = {"ProtectControlGroups", "ProtectKernelTunables", "ProtectKernelLogs", "ProtectProc", "ProcSubset",
             "MemoryDenyWriteExecute"}  # fmt: skip
    assert not taken & set(service)
    assert {"memory", "pids", "cpu"} <= set(service["Delegate"].split())
    assert service["OOMPolicy"] == "continue"


def test_the_image_is_not_root_and_runs_the_network() -> None:
    last = dict(instructions()[[word for word, _ in instructions()].index("FROM", 1) :])
    assert (last["USER"], last["ENTRYPOINT"], last["CMD"]) == ("10001:10001", '["modvisor"]', '["run"]')
    assert (last["VOLUME"], last["EXPOSE"]) == (STATE, "8700")


def test_compose_adds_no_rights_and_publishes_to_this_machine_alone() -> None:
    composed = yaml.safe_load((DEPLOY / "container" / "compose.yaml").read_text())
    (service,) = composed["services"].values()
    assert service["ports"] == ["127.0.0.1:8700:8700"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "pid", "init"} & service.keys()
    state, _, place = service["volumes"][0].partition(":")
    assert (place, list(composed["volumes"])) == (STATE, [state])
    folder = (DEPLOY / "container" / service["build"]["context"]).resolve()
    assert (folder / service["build"]["dockerfile"]) == DEPLOY / "container" / "Dockerfile"


def test_the_manifest_names_what_it_uses() -> None:
    found = manifests()
    assert set(found) == {"ConfigMap", "Service", "StatefulSet"}
    spec = found["StatefulSet"]["spec"]
    pod = spec["template"]
    labels = pod["metadata"]["labels"]
    assert labels == spec["selector"]["matchLabels"] == found["Service"]["spec"]["selector"]
    assert spec["serviceName"] == found["Service"]["metadata"]["name"]
    assert spec["replicas"] == 1, "one state directory has one owner"
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    assert port == {"name": found["Service"]["spec"]["ports"][0]["targetPort"], "containerPort": 8700}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    there = {each["name"] for each in pod["spec"]["volumes"]} | {spec["volumeClaimTemplates"][0]["metadata"]["name"]}
    assert (set(mounted), mounted["state"], mounted["config"]) == (there, STATE, "/etc/modvisor")
    assert pod["spec"]["volumes"][0]["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]


def test_the_pod_has_the_user_of_the_image_and_no_rights() -> None:
    pod = manifests()["StatefulSet"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}" == "10001:10001"
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_alive_and_ready_are_asked_apart() -> None:
    """A mod that is not ready takes the pod out of the service; it must not restart the network."""
    (container,) = manifests()["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/healthz"}


DOCS = DEPLOY.parent / "docs"


@pytest.mark.parametrize("page", ["docs/deploying.md", "docs/upgrading.md", "docs/stability.md", "SECURITY.md"])
def test_every_link_and_every_file_that_a_page_names_is_there(page: str) -> None:
    path = DEPLOY.parent / page
    text = path.read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    named = re.findall(r"\bdeploy/[\w./-]+\w", text)
    assert links
    missing = [link for link in links if not (path.parent / link).exists()]
    assert missing + [name for name in named if not (DEPLOY.parent / name).exists()] == []


def test_what_the_page_says_is_kept_is_what_the_keys_say() -> None:
    """Ages in days, hours and minutes, as the table writes them."""
    table = (DOCS / "deploying.md").read_text().partition("## What is kept")[2].partition("\n## ")[0]
    said = {
        key: int(number) * {"days": 86400, "hour": 3600, "minutes": 60}[unit]
        for number, unit, key in re.findall(r"\| (\d+) (days|hour|minutes)\b[^|]*\| `([\w.]+)`", table)
    }
    config = NetworkConfig(name="n", network_id="n", base_dir=DEPLOY, storage=DEPLOY)
    assert said == {key: attrgetter(key)(config) for key in said}
    assert set(said) == {
        "journal.dead_letter_age", "journal.crash_report_age", "journal.answer_age", "agents.expire_after",
    }  # fmt: skip
