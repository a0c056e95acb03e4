"""The one table of what pages show and no walk of a page gives: why, and which test runs it or does the same."""

from __future__ import annotations

from dataclasses import dataclass

from .pages import Block


@dataclass(frozen=True)
class NotRun:
    """What begins so on a page: a command, or of a block in another language its first line.

    `test` is a file of tests and a function in it, or the Makefile and a target.
    """

    page: str
    begins: str
    why: str
    test: str


_INSTALLED = "installs from the registry; here all of it is installed from the checkout"
_WHEEL = "tests/test_packaging.py::test_the_wheel_runs_a_network_in_a_clean_environment"
_TAKEN = "that test takes it from the page and runs it"
_LONG = "takes minutes, and begins what runs this table"
_MEASURES = "measures for minutes; the same with tiny counts is run"
_MACHINE = "changes the machine; done in a Debian that is booted for it"
_IMAGE = "needs a daemon for images; the image is built, and its program run, by other means"
_NPM = "installs from the registry; here the package is built from the checkout"
_PARTS = "tests/clients/python/test_docs.py::test_the_other_examples_are_what_the_client_has"
_WHOLE = "tests/clients/python/test_docs.py::test_whole_programs_run"
_TS = "tests/docs/test_typescript.py::test_the_examples_of_the_typescript_client_run"

NOT_RUN: tuple[NotRun, ...] = (
    NotRun("README.md", "make run", _LONG, "tests/test_examples.py::test_the_tour_that_is_ended_ends_its_network"),
    NotRun("README.md", "make test", _LONG, "Makefile::test"),
    NotRun("README.md", "import asyncio", _TAKEN, "tests/test_readme.py::test_the_library_tour_prints_what_it_says"),
    NotRun("README.md", "from modvisor import BaseMod", _TAKEN, "tests/test_readme.py::test_the_mod_it_shows_works"),
    NotRun("index.md", "pip install modvisor", _INSTALLED, _WHEEL),
    NotRun("tutorial.md", "python3 -m venv", _INSTALLED, _WHEEL),
    NotRun("tutorial.md", "pip install modvisor", _INSTALLED, _WHEEL),
    NotRun("mods.md", "import pytest", _TAKEN, "tests/test_readme.py::test_the_test_of_a_mod_that_is_shown_passes"),
    NotRun(
        "versions.md", "from modvisor", _TAKEN, "tests/test_readme.py::test_the_mod_that_requires_another_one_works"
    ),
    NotRun(
        "clients.md", "pip install modvisor-client", _INSTALLED,
        "tests/test_packaging.py::test_the_client_talks_to_a_network_from_a_clean_environment_with_it_alone",
    ),
    NotRun("clients.md", "import asyncio", _TAKEN, _WHOLE),
    NotRun("clients.md", "@bob.on", _TAKEN, _PARTS),
    NotRun("clients.md", "async for event", _TAKEN, _PARTS),
    NotRun("clients.md", "@me.on", _TAKEN, _PARTS),
    NotRun("clients.md", "from modvisor_client.sync", _TAKEN, _WHOLE),
    NotRun(
        "clients.md", "npm install", _NPM,
        "tests/clients/ts/test_ts_client.py::test_its_own_tests_pass_in_node_and_in_chromium",
    ),
    NotRun("clients.md", "const me = await", _TAKEN, _TS),
    NotRun("metrics.md", "pip install", _INSTALLED, _WHEEL),
    NotRun("metrics.md", "import { propagation", _TAKEN, _TS),
    NotRun("deploying.md", "sudo ", _MACHINE, "Makefile::deploy-test"),
    NotRun("deploying.md", "docker ", _IMAGE, "Makefile::deploy-test"),
    NotRun(
        "deploying.md", "kubectl ", "needs Kubernetes; the manifests are checked against its schemas",
        "tests/deploy/test_cluster_files.py::test_kubernetes_takes_the_manifests",
    ),
    NotRun("cluster.md", "pip install", _INSTALLED, _WHEEL),
    NotRun(
        "upgrading.md", "/opt/modvisor/bin/pip install", _INSTALLED,
        "tests/upgrades/test_upgrades.py::test_a_network_goes_on_where_a_former_version_was_killed",
    ),
    NotRun("upgrading.md", "sudo systemctl restart", _MACHINE, "Makefile::deploy-test"),
    NotRun(
        "moving.md", "class Orders:  # a plugin", _TAKEN,
        "tests/docs/test_moving.py::test_the_mod_answers_as_the_plugin_did",
    ),
    NotRun(
        "config.md", "mods/wiki/versions/2.0/venv/bin/pip install", "installs from the registry, if that can be reached",
        "tests/processes/test_interpreters.py::test_two_versions_of_a_mod_that_need_different_releases_of_a_library",
    ),
    NotRun(
        "commands.md", "", "is printed from the examples of --help",
        "tests/cli/test_cli_help.py::test_every_example_runs",
    ),
    NotRun(
        "protocol.md", "#!/usr/bin/env node", _TAKEN,
        "tests/processes/test_other_languages.py::test_the_worker_of_the_manual",
    ),
    NotRun("performance.md", "make ", _MEASURES, "Makefile::bench-smoke"),
)  # fmt: skip


def row_of(page: str, begins: str) -> NotRun | None:
    """Return the row for a command of a page, or for a block in another language."""
    return next((row for row in NOT_RUN if row.page == page and begins.startswith(row.begins)), None)


def begins_of(block: Block) -> list[str]:
    """Return what rows may name of a block: its commands, or its first line."""
    return [step.command for step in block.steps if step.command] or [block.begins]
