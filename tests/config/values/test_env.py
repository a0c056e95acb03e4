"""Values that come from a variable or a file, and secrets."""

from __future__ import annotations

import re

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.config.network.network import GroupConfig
from modvisor.supervisor.config.values.env import EnvValue


def test_env_value_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("MODVISOR_TEST_UNSET", raising=False)
    (tmp_path / "latin").write_bytes(b"\xe9")
    for value, message in (
        (EnvValue(variable="MODVISOR_TEST_UNSET"), "the environment variable MODVISOR_TEST_UNSET is not set"),
        (EnvValue(file=tmp_path / "none"), f"cannot read the file {tmp_path}/none: No such file or directory"),
        (EnvValue(file=tmp_path), f"cannot read the file {tmp_path}: Is a directory"),
        (EnvValue(file=tmp_path / "latin"), f"the file {tmp_path}/latin is not UTF-8 text"),
    ):
        with pytest.raises(ModvisorError, match=re.escape(message)) as caught:
            value.resolve()
        assert caught.value.code == "bad_config"


def test_only_the_last_line_break_of_a_file_goes(tmp_path):
    (tmp_path / "pem").write_bytes(b"a\nb\n\n")
    assert EnvValue(file=tmp_path / "pem").resolve() == "a\nb\n"


def test_secrets_stay_out_of_reprs():
    assert "s3cret" not in repr(EnvValue(literal="s3cret"))
    assert "abc" not in repr(GroupConfig("g", password_hash="abc"))
