"""Amounts, durations and text as people read them."""

from __future__ import annotations

import pytest

from govmiddleware.core.wording import amount_words, duration_words, slack_section, slack_text


@pytest.mark.parametrize(
    ("amount", "meter", "words"),
    [
        ("1.500000000", "cost_usd", "1.50 USD"),
        ("0.000042450", "cost_usd", "0.00004245 USD"),
        ("10.000000000", "cost_usd", "10.00 USD"),
        (1, "requests", "1 request"),
        (0, "input_tokens", "0 input tokens"),
        (2, "concurrency", "2 slots"),
        (90, "wall_clock", "90 seconds"),
    ],
)
def test_amounts_have_their_unit_and_no_needless_zeros(amount: object, meter: str, words: str) -> None:
    assert amount_words(amount, meter) == words


def test_durations_are_in_their_largest_whole_unit() -> None:
    assert [duration_words(seconds) for seconds in (1, 90, 60, 3600, 5400, 172800)] == [
        "1 second",
        "90 seconds",
        "1 minute",
        "1 hour",
        "90 minutes",
        "2 days",
    ]


def test_what_slack_would_read_as_its_own_is_escaped() -> None:
    assert slack_text("<!channel> R&D") == "&lt;!channel&gt; R&amp;D"


def test_a_section_is_cut_between_characters_before_slack_refuses_it() -> None:
    assert slack_section("a < b") == "a &lt; b"
    cut = slack_section("a" + 1000 * "&")
    assert len(cut) <= 3000
    assert cut == "a" + (cut.count("&amp;") * "&amp;") + "…"
    assert cut.count("&amp;") == 599
