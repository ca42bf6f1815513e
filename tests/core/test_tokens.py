"""Counting tokens: as tiktoken does, from shipped vocabularies, whatever the text."""

from __future__ import annotations

import base64
import hashlib
import inspect
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import tiktoken_ext.openai_public as reference  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken import Encoding

from govmiddleware.core import fast_counter, reference_counter, tokens
from govmiddleware.core.fast_counter import FastCounter
from govmiddleware.core.reference_counter import CL100K, O200K, ReferenceCounter
from govmiddleware.core.tokens import count_each, count_tokens, encoding_for, load

reference_counter_of, fast_counter_of = cache(ReferenceCounter), cache(FastCounter)
COUNTERS = {"reference": reference_counter_of, "fast": fast_counter_of}


def encoding_of(name: str) -> Encoding:
    return reference_counter_of(name).encoding


TEXTS = [
    "",
    "Hello, world! It's a fine day, isn't it?",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "Größenwahn ist keine Tugend. 1234567 Äpfel",
    "国际化的文本内容",
    "<|endoftext|>",
]


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (CL100K, "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
        (O200K, "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
    ],
)
def test_the_shipped_vocabulary_is_the_one_that_tiktoken_would_load(encoding: str, expected: str) -> None:
    """Written out as the file that tiktoken downloads, it has the hash that tiktoken expects of that."""
    ranks = encoding_of(encoding)._mergeable_ranks
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
    assert hashlib.sha256(lines).hexdigest() == expected
    assert expected in inspect.getsource(getattr(reference, encoding))


@pytest.mark.parametrize("encoding", [CL100K, O200K])
def test_words_are_split_as_tiktoken_splits_them(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "load_tiktoken_bpe", lambda *args, **named: {})
    definition: dict[str, Any] = getattr(reference, encoding)()
    assert reference_counter._PATTERNS[encoding] == definition["pat_str"]


def test_ids_are_those_that_tiktoken_documents() -> None:
    assert encoding_of(CL100K).encode_ordinary("hello world") == [15339, 1917]
    assert encoding_of(O200K).encode_ordinary("hello world") == [24912, 2375]


@pytest.mark.parametrize("text", TEXTS)
def test_counts_are_tiktokens(text: str) -> None:
    counted = tuple(count_tokens([text], encoding=name) for name in (O200K, CL100K))
    assert counted == tuple(len(encoding_of(name).encode_ordinary(text)) for name in (O200K, CL100K))


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=COUNTERS)
def test_an_unknown_encoding_is_a_key_error(counter: Any) -> None:
    with pytest.raises(KeyError):
        counter("no-such")


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(("installed", "counter"), [(True, FastCounter), (False, ReferenceCounter)])
def test_the_fast_counter_is_used_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: bool, counter: type
) -> None:
    monkeypatch.setattr(fast_counter, "is_installed", installed)
    assert type(load(CL100K)) is counter
    assert count_each(["hello world", ""], encoding=CL100K) == [2, 0]


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-3.5-turbo", CL100K),
        ("gpt-4", CL100K),
        ("gpt-4-turbo-2024-04-09", CL100K),
        ("azure/gpt-35-turbo", CL100K),
        ("ft:gpt-3.5-turbo:org::id", CL100K),
        ("text-embedding-3-large", CL100K),
        ("gpt-4o-mini", O200K),
        ("gpt-4.1", O200K),
        ("gpt-4.5-preview", O200K),
        ("gpt-5", O200K),
        ("o3-mini", O200K),
        ("claude-sonnet-4-5", O200K),
        ("", O200K),
    ],
)
def test_each_model_has_its_encoding(model: str, encoding: str) -> None:
    assert encoding_for(model) == encoding


MILLION = 1_000_000
HOSTILE = {
    "spaces": " " * MILLION,
    "line ends": "\n" * MILLION,
    "tabs and spaces": "\t " * (MILLION // 2),
    "one letter": "a" * MILLION,
    "emoji": "😀" * MILLION,
    "a family of emoji": "👨‍👩‍👧‍👦" * (MILLION // 7),
    "Chinese": "国际化的文本内容" * (MILLION // 8),
    "digits": "7" * MILLION,
    "punctuation": "!?" * (MILLION // 2),
    "lone surrogates": "\ud800" * (MILLION // 10),
    "combining marks": "e" + "\u0301" * MILLION,
    "special tokens": "<|endoftext|>" * (MILLION // 13),
    "nulls": "\0" * MILLION,
}


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=COUNTERS)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_million_hostile_characters_are_counted_soon(kind: str, counter: Any) -> None:
    counter(O200K)
    begun = time.perf_counter()
    [counted] = counter(O200K)([HOSTILE[kind]])
    assert 0 < counted <= 4 * MILLION
    assert time.perf_counter() - begun < 5


pieces = st.sampled_from(
    [
        "word ",
        " ",
        "  ",
        "\n",
        "a",
        "Ünï",
        "国际",
        "😀",
        "12345",
        "!!",
        "'s",
        "don't ",
        "e\u0301",
        "\ud800",
        "<|endoftext|>",
        "\t",
    ]
)
texts = st.one_of(st.text(), st.lists(pieces, max_size=200).map("".join))


@given(texts, st.integers(4, 60), st.sampled_from([CL100K, O200K]))
def test_cutting_a_text_never_counts_too_few(text: str, size: int, encoding: str) -> None:
    encode = encoding_of(encoding).encode_ordinary
    whole, cut = len(encode(text)), reference_counter._count_long(text, encode, size)
    assert cut >= whole


@given(st.lists(texts, max_size=5), st.sampled_from([CL100K, O200K]))
def test_the_fast_counter_counts_as_tiktoken_does(several: list[str], encoding: str) -> None:
    encode = encoding_of(encoding).encode_ordinary
    assert fast_counter_of(encoding)(several) == [len(encode(text)) for text in several]


@settings(max_examples=30, deadline=None)  # the first reads the vocabulary
@given(st.lists(texts, min_size=1, max_size=3))
def test_the_fast_counter_counts_many_texts_as_it_does_few(several: list[str]) -> None:
    count = fast_counter_of(O200K)
    assert count(several * 40) == count(several) * 40


@given(st.lists(st.text("abcdefg", min_size=1, max_size=12), max_size=300), st.integers(40, 80))
def test_cutting_between_words_changes_nothing(words: list[str], size: int) -> None:
    text, encode = " ".join(words), encoding_of(O200K).encode_ordinary
    assert reference_counter._count_long(text, encode, size) == len(encode(text))


def test_a_long_text_counts_nearly_the_same_as_its_parts() -> None:
    text = "The quick brown fox jumps over the lazy dog, 1,234 times. " * 2_000
    [counted] = reference_counter_of(O200K)([text])
    whole = len(encoding_of(O200K).encode_ordinary(text))
    assert whole == count_tokens([text]) <= counted <= whole * 1.001


@pytest.fixture
def unloaded() -> Iterator[None]:
    before = dict(tokens._counters)
    tokens._counters.clear()
    yield
    tokens._counters.update(before)


@pytest.mark.usefixtures("unloaded")
def test_a_vocabulary_is_read_once_however_many_threads_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(name: str) -> FastCounter:
        reads.append(name)
        return fast_counter_of(name)

    monkeypatch.setattr(tokens, "FastCounter", read)
    threads = [threading.Thread(target=count_tokens, args=(["hello"],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == [O200K]


@pytest.mark.parametrize("counter", COUNTERS.values(), ids=COUNTERS)
def test_other_threads_run_while_a_large_text_is_counted(counter: Any) -> None:
    text = "国际化的文本内容 and some English words, " * 100_000
    thread = threading.Thread(target=counter(O200K), args=([text],))
    longest, last = 0.0, time.perf_counter()
    thread.start()
    while thread.is_alive():
        time.sleep(0.0005)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    assert longest < 0.25, "the GIL was held all along"
