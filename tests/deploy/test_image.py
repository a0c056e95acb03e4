"""The image, built by buildah on a Debian of our own, and its program as process 1 of a container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .debian import BUILD, ROOT, debian, deployed, run, wheels
from .test_boot import LANDLOCK, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), deployed]

STORE = BUILD / "store"


def buildah(*words: str | Path) -> str:
    return run("buildah", "--root", STORE, *words).strip()


@pytest.fixture(scope="module")
def base() -> str:
    if "localhost/debian" not in buildah("images", "--noheading", "--format", "{{.Name}}"):
        made = BUILD / "debian.tar"
        run("tar", "-C", debian(), "-cf", made, ".")
        container = buildah("from", "scratch")
        buildah("add", "-q", container, made, "/")
        buildah("commit", "-q", container, "localhost/debian")
        made.unlink()
    return "localhost/debian"


@pytest.fixture(scope="module")
def image(base: str) -> str:
    offline = ["--build-arg", "PIP_FIND_LINKS=/wheels", "--build-arg", "PIP_NO_INDEX=1"]
    words = ["--isolation", "chroot", "--format", "docker", "-v", f"{wheels()}:/wheels:ro", "--no-cache"]
    file = ROOT / "deploy" / "container" / "Dockerfile"
    buildah("bud", "-q", *words, "--build-arg", f"BASE={base}", *offline, "-f", file, "-t", "modvisor", ROOT)
    return "localhost/modvisor"


@pytest.fixture(scope="module")
def root(image: str) -> Iterator[Path]:
    container = buildah("from", "--pull-never", image)
    yield Path(buildah("mount", container))
    buildah("rm", container)


def test_it_says_who_it_is_and_what_it_runs(image: str) -> None:
    config = json.loads(buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert (config["User"], config["Entrypoint"], config["Cmd"]) == ("10001:10001", ["modvisor"], ["run"])
    assert config["Volumes"] == {"/var/lib/modvisor": {}}


def test_it_holds_no_sources_and_no_tools_to_build_with(root: Path) -> None:
    assert not (root / "src").exists()
    assert not list((root / "opt/modvisor/lib").glob("python*/site-packages/modvisor/tests"))
    assert (root / "var/lib/modvisor").stat().st_uid == 10001


def test_its_program_is_process_1_collects_orphans_and_ends_in_order(root: Path) -> None:
    words = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe", "-D", str(root)]
    more = ["--user=modvisor", "--chdir=/var/lib/modvisor", f"--system-call-filter={LANDLOCK}"]
    variables = ["--setenv=PATH=/opt/modvisor/bin:/usr/bin:/bin", "--setenv=MODVISOR_FILE=/etc/modvisor/network.yaml"]
    with subprocess.Popen(
        [*words, *more, *variables, "/usr/bin/env", "-u", "NOTIFY_SOCKET", "modvisor", "run"],  # nspawn's own
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("ready in "):
                    break
            assert any("loaded   wiki" in line for line in said), said
            assert not any("enforce" in line for line in said), said
            first = next(each for each in psutil.Process(process.pid).children() if "modvisor" in each.cmdline()[1])
            assert os.stat(f"/proc/{first.pid}").st_uid == 10001
            with urllib.request.urlopen("http://127.0.0.1:8700/api/health", timeout=10) as answer:
                assert answer.status == 200

            subprocess.run(["nsenter", "-t", str(first.pid), "-a", "sh", "-c", "sleep 0 & : > orphan"], check=True)
            (network,) = (each for each in first.children() if each.status() != psutil.STATUS_ZOMBIE)
            until(lambda: first.children() == [network])
            first.send_signal(signal.SIGTERM)
            rest = [line for line in process.stdout.read().splitlines() if "/run/systemd/nspawn" not in line]
            assert rest == ["SIGTERM: stopping; once more to kill", "stopped"]
            assert process.wait(30) == 0
        finally:
            process.kill()
