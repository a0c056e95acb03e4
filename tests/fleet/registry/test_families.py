"""Which version an event goes to, and what is kept of promotions."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.supervisor.fleet.registry.families import MAX_BEFORE, Families, NotInAudience

from ..fake_mods import fake_mod, journey


class Records:
    """The journal, as far as it keeps families."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}

    def keep_family(self, family: str, record: dict[str, Any] | None) -> None:
        self.kept[family] = record


def families_of(*mods: Any) -> tuple[Families, Records]:
    records = Records()
    families = Families(records, lambda: families.arrange(mods))  # pyright: ignore[reportArgumentType]
    families.arrange(mods)
    return families, records


def test_one_version_without_an_audience_is_not_split() -> None:
    wiki = fake_mod("wiki")
    families, _ = families_of(wiki)
    assert families.split_of("wiki") is None
    assert families.addressed("wiki", wiki, journey("agent:alice")) is wiki
    assert families.stats_of(wiki).to_dict() == {
        "family": "wiki",
        "audience": None,
        "reaches": "everyone",
        "share": None,
    }


def test_the_name_of_a_family_means_the_version_of_the_source() -> None:
    wiki, canary = fake_mod("wiki"), fake_mod("wiki@2", audience={"agents": ["alice"]})
    families, _ = families_of(wiki, canary)
    assert families.addressed("wiki", wiki, journey("agent:alice")) is canary
    assert families.addressed("wiki", wiki, journey("agent:bob")) is wiki
    with pytest.raises(NotInAudience, match="has version wiki"):
        families.addressed("wiki@2", canary, journey("agent:bob"))


def test_a_version_that_failed_at_once_keeps_its_sources() -> None:
    wiki, broken = fake_mod("wiki", patterns=("a.*", "b.*")), fake_mod("wiki@2")
    broken.manifest = None
    families, _ = families_of(wiki, broken)
    assert families.patterns_of_siblings(broken) == ("a.*", "b.*")
    assert families.patterns_of_siblings(fake_mod("other")) == ()


def test_a_share_counts_from_the_last_change_of_audiences() -> None:
    wiki, canary = fake_mod("wiki"), fake_mod("wiki@2", audience={"percent": 50})
    wiki.counters.events_in = 100
    families, _ = families_of(wiki, canary)
    wiki.counters.events_in, canary.counters.events_in = 103, 1
    assert [families.stats_of(mod).share for mod in (wiki, canary)] == [0.75, 0.25]
    wiki.counters.events_in = 1  # it was loaded anew, and counts from 0
    assert families.stats_of(wiki).share == 0.5


def test_promotions_outlive_a_run() -> None:
    wiki, canary = fake_mod("wiki"), fake_mod("wiki@2", audience={"percent": 5})
    families, records = families_of(wiki, canary)
    before = families.split_of("wiki")
    assert before is not None
    families.note_promotion(before)
    families.change({canary: (None, 1)})
    families.keep("wiki")

    again = fake_mod("wiki@2")
    restored, _ = families_of(fake_mod("wiki"), again)
    restored.restore(records.kept)
    assert (restored.promoted("wiki@2"), restored.promoted("wiki@2")) == (1, 0)
    assert restored.promotions("wiki") == [before]
    restored.drop_promotion("wiki")
    assert restored.promotions("wiki") == []


def test_a_bounded_number_of_promotions_can_be_rolled_back() -> None:
    families, _ = families_of(fake_mod("wiki"), fake_mod("wiki@2"))
    split = families.split_of("wiki")
    assert split is not None
    for _ in range(MAX_BEFORE + 1):
        families.note_promotion(split)
    assert len(families.promotions("wiki")) == MAX_BEFORE


def test_a_family_that_is_gone_is_dropped_from_the_journal() -> None:
    families, records = families_of()
    families.restore(
        {"wiki": {"promoted": {"wiki@2": 1}, "before": [[{"mod_id": "wiki", "audience": None, "promoted": 0}]]}}
    )
    families.forget_gone()
    assert records.kept == {"wiki": None}
    assert families.promotions("wiki") == []


def test_a_record_that_cannot_be_read_is_dropped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    families, _ = families_of()
    families.restore({"wiki": {"promoted": [], "before": "nonsense"}})
    assert "promotions of wiki cannot be read back" in caplog.text
