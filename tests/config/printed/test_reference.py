"""docs/config.md: its tables are those of the fields, and its defaults are the defaults."""

from __future__ import annotations

from pathlib import Path

import yaml

from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.config.printed import reference
from modvisor.supervisor.config.values.reader import Location
from modvisor.supervisor.config.yaml.source import Source

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "config.md").read_text("utf-8")


def test_the_tables_of_the_manual_are_printed_from_the_fields():
    assert sorted(reference.marked(DOC)) == sorted([*reference.TABLES, reference.MOD_FILE, reference.CHANGES]), (
        "a marker is missing in the page"
    )
    assert reference.printed(DOC) == DOC, "docs/config.md is stale: run 'make docs'"


def test_a_default_in_the_manual_reads_as_the_default():
    """A table shows the default of a field; reading what it shows must give that default."""
    for title, table in reference.TABLES.items():
        for name, each in table.items():
            if each.default_text.startswith("`") and not each.shown:
                source = Source()
                written = yaml.safe_load(each.default_text.strip("`"))
                found = each.reader(written, Location(source, ROOT, (title, name)))
                assert (found, source.problems) == (each.default, []), f"{title}: {name}"


def test_the_default_of_storage_is_the_folder_that_the_manual_names():
    shown = reference.TABLES["network"]["storage"].default_text.strip("`")
    assert parse_config({"network": {"name": "demo"}}, base_dir=ROOT).storage == ROOT / shown
