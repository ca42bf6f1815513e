"""What was counted before: found again by who sent it, bounded, and nobody pushes out another's."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.count_memory import CountMemory


def remember(memory: CountMemory, workspace: str, *texts: str) -> None:
    memory.remember(
        workspace, [(key, len(text)) for key, text in zip(memory.keys(texts, "x"), texts, strict=True)]
    )


def known(memory: CountMemory, workspace: str, *texts: str) -> list[int | None]:
    return memory.recall(workspace, memory.keys(texts, "x"))


def test_a_count_is_found_by_its_text_encoding_and_workspace_alone() -> None:
    memory = CountMemory()
    remember(memory, "acme", "four", "\ud800")
    assert known(memory, "acme", "\ud800", "other", "four") == [1, None, 4]
    assert known(memory, "globex", "four") == [None]
    assert memory.recall("acme", memory.keys(["four"], "y")) == [None]


def test_nobody_else_can_tell_what_a_text_is_known_by() -> None:
    [here], [there] = CountMemory().keys(["text"], "x"), CountMemory().keys(["text"], "x")
    assert here != there


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    memory = CountMemory(most=3)
    remember(memory, "acme", "a", "b", "c")
    known(memory, "acme", "a")
    remember(memory, "acme", "d")
    assert known(memory, "acme", "a", "b", "c", "d") == [1, None, 1, 1]


def test_who_sends_ever_new_texts_pushes_out_its_own() -> None:
    memory = CountMemory(most=100)
    quiet = [f"quiet {number}" for number in range(50)]
    remember(memory, "quiet", *quiet)
    remember(memory, "loud", *map(str, range(10_000)))
    assert None not in known(memory, "quiet", *quiet)
    assert known(memory, "loud", "9949", "9950") == [None, 4]


def test_who_comes_late_gets_its_part_from_who_has_most() -> None:
    memory = CountMemory(most=100)
    remember(memory, "loud", *map(str, range(100)))
    remember(memory, "late", *map(str, range(50)))
    assert None not in known(memory, "late", *map(str, range(50)))
    assert known(memory, "loud", "49", "50") == [None, 2]


@settings(max_examples=50)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 30)), max_size=80), st.integers(1, 20))
def test_it_never_holds_more_than_it_may(steps: list[tuple[str, int]], most: int) -> None:
    memory = CountMemory(most=most)
    for workspace, text in steps:
        remember(memory, workspace, str(text))
        assert known(memory, workspace, str(text)) != [None] or most < 4
    held = {name: known(memory, name, *map(str, range(31))) for name in "abcd"}
    assert sum(31 - counts.count(None) for counts in held.values()) <= most
