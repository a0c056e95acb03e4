"""What is masked: one list of keys and values for data and for text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.supervisor.config import ConfigError, Redaction, parse_config, redacted_in
from modvisor.supervisor.config.mods.entry import parse_mod
from modvisor.supervisor.config.redaction import MASK

BASE = Path("/base")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("api_key=sk-123456 next", "api_key=*** next"),
        ("Authorization: Bearer abc.def-ghi, then", "Authorization: Bearer ***, then"),
        ('{"password": "x y", "max_tokens": 5}', '{"password": "***", "max_tokens": 5}'),
        ("{'secret_hash': b'x'}", "{'secret_hash': b'***'}"),
        ("https://host/?token=abc&x=1", "https://host/?token=***&x=1"),
        ("ACCESS-TOKEN=abc; db_passwd='a b'", "ACCESS-TOKEN=***; db_passwd='***'"),
        ("card_number=4444 user_pin: 1234", "card_number=*** user_pin: ***"),
        ("tokens=5, the password is forgotten", "tokens=5, the password is forgotten"),
        ("say 'token=abc' and password=it's-long", "say 'token=***' and password=***"),
        ("password:\nnext line", "password:\nnext line"),
    ],
)
def test_text_is_masked_behind_a_secret_key(text: str, masked: str) -> None:
    redaction = Redaction(["card_number", "*_pin"])
    assert redaction.text(text) == masked
    assert redaction.text(masked) == masked


def test_data_is_masked_by_its_keys_at_any_depth_and_is_a_copy() -> None:
    given = {"secret": "x", "a": {"card-number": 5, "n": [{"my_pin": ""}, {"X-Api-Key": ["k"]}]}, "tokens": 3, 5: "y"}
    masked = Redaction(["card_number", "*_pin"]).data(given)
    assert masked == {
        "secret": MASK, "a": {"card-number": MASK, "n": [{"my_pin": ""}, {"X-Api-Key": MASK}]}, "tokens": 3, 5: "y",
    }  # fmt: skip
    assert given["secret"] == "x"


def test_the_secrets_of_a_mod_are_masked_wherever_they_appear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "line one\nline two")
    redaction = Redaction()
    mod = parse_mod(
        {
            "path": "pkg.m",
            "env": {"MODE": "production", "KEY": "s3cr3t-one", "SHORT_KEY": "abc", "OTHER": {"from": "env:OTHER"}},
            "config": {"db": [{"password": "in the config"}], "title": "A title"},
        },
        base_dir=BASE,
    )
    redaction.learn(mod, {"MODE": "production", "KEY": "s3cr3t-one", "SHORT_KEY": "abc", "OTHER": "line one\nline two"})
    text = "production s3cr3t-one abc line one, line two, in the config, A title"
    assert redaction.text(text) == "production *** abc ***, ***, ***, A title"
    assert redaction.data({"text": ["<s3cr3t-one>"]}) == {"text": ["<***>"]}
    redaction.learn(mod, {"KEY": "another one"})
    assert redaction.text("s3cr3t-one, another one") == "s3cr3t-one, ***", "what a mod has no more is forgotten"


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10) | st.just("token"), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(max_examples=30)
@given(plain)
def test_any_data_is_masked_once(data: Any) -> None:
    once = Redaction().data(data)
    assert Redaction().data(once) == once


@settings(max_examples=30)
@given(st.text(st.sampled_from("tokensecr=:\"' \n-_&"), max_size=60))
def test_masking_keeps_the_number_of_lines(text: str) -> None:
    assert Redaction().text(text).count("\n") == text.count("\n")


@pytest.mark.parametrize(
    "wrong", ["card", [1], ["*"], ["a b"], [""], {"a": 1}], ids=["text", "number", "star", "space", "empty", "mapping"]
)
def test_a_wrong_list_is_refused_with_what_is_expected(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"redact.*card_number"):
        parse_config({"network": {"name": "x"}, "redact": wrong}, base_dir=BASE)


def test_the_list_is_read_from_a_file_with_mistakes_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    file.write_text("network: {name: 5, prot: 1}\nredact: [card_number, 5]\n")
    assert redacted_in(file) == ("card_number",)
    file.write_text("redact: {a: 1}")
    assert redacted_in(file) == ()
    assert parse_config({"network": {"name": "x"}, "redact": ["a"]}, base_dir=BASE).redact == ("a",)
