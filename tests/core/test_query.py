"""Keys in query strings."""

from __future__ import annotations

import pytest

from govmiddleware.core.query import keys_in, without_key


@pytest.mark.parametrize(
    ("query", "keys", "rest"),
    [
        (b"", [], b""),
        (b"alt=sse", [], b"alt=sse"),
        (b"key=a", ["a"], b""),
        (b"alt=sse&key=a%2Bb&x=%20&y", ["a+b"], b"alt=sse&x=%20&y"),
        (b"%6Bey=a&key=&key=b", ["a", "b"], b""),
        (b"monkey=a&KEY=b&a=key", [], b"monkey=a&KEY=b&a=key"),
    ],
)
def test_keys_are_found_however_they_are_written_and_the_rest_stays_as_it_came(
    query: bytes, keys: list[str], rest: bytes
) -> None:
    assert list(keys_in(query)) == keys
    assert without_key(query) == rest
