"""Which paths can be read in one way only, and what is the same path to some server."""

from __future__ import annotations

import pytest

from govmiddleware.core.paths import folded, is_plain, is_under, raw_path


@pytest.mark.parametrize(
    "path",
    [
        b"/",
        b"/v1/chat/completions",
        b"/v1/chat/completions/",
        b"/v1/chat/completions//",
        b"/openai/deployments/gpt-3.5_turbo~1/chat/completions",
        b"/v1beta/models/gemini-2.0-flash:generateContent",
        b"/v1/models/meta-llama%2FLlama-3",
        b"/model/arn%3Aaws%3Abedrock%3A%3A%2Fx/converse",
        b"/v1/files/a%20b%2bc@d!$&'()*+,=",
        b"/v1/files/caf%C3%A9",
        b"/.well-known/x...y",
    ],
)
def test_a_path_that_every_server_reads_the_same_is_plain(path: bytes) -> None:
    assert is_plain(path)


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"*",
        b"v1",
        b"http://x/v1",
        b"//v1",
        b"/v1//x",
        b"/./v1",
        b"/v1/../x",
        b"/v1/..",
        b"/v1/../",
        b"/v1%2F..%2Fx",
        b"/v1%2F%2Fx",
        b"/%2e%2e/x",
        b"/%76%31",
        b"/v%31",
        b"/%5A",
        b"/v1;x",
        b"/v1%3bx",
        b"/v1%253bx",
        b"/v1%3Fx",
        b"/v1#x",
        b"/v1%23x",
        b"/v1\\x",
        b"/v1%5Cx",
        b"/v1%00",
        b"/v1%0a",
        b"/v1%7f",
        b"/v1%",
        b"/v1%4",
        b"/v1%zz",
        b"/v1 x",
        b'/v1"',
        b"/caf\xc3\xa9",
        b"/v1%C0%AFx",
        b"/v1%ff",
        b"/%EF%BD%831",  # a fullwidth c
        b"/v1%EF%BC%8Fx",  # a fullwidth slash
        b"/%E2%84%AA",  # the Kelvin sign
        b"/%C5%BF",  # a long s
    ],
)
def test_a_path_that_servers_read_in_different_ways_is_not(path: bytes) -> None:
    assert not is_plain(path)


@pytest.mark.parametrize("path", ["/A/b", "/a/b/", "/a/B//", "/a/b\n", "/a/b. ", "/a/b/.\r\n"])
def test_letter_case_and_what_servers_ignore_at_the_end_do_not_count(path: str) -> None:
    assert folded(path) == "/a/b"


def test_a_path_is_under_a_prefix_by_whole_segments() -> None:
    assert is_under("/gov", "/gov")
    assert is_under("/gov/x", "/gov")
    assert not is_under("/government", "/gov")
    assert not is_under("/x/gov", "/gov")


def test_a_server_that_keeps_no_raw_path_has_it_encoded_again() -> None:
    assert raw_path({"path": "/a b/é", "raw_path": b"/a%20b/%C3%A9"}) == b"/a%20b/%C3%A9"
    assert raw_path({"path": "/a b/é", "raw_path": None}) == b"/a%20b/%C3%A9"
    assert raw_path({"path": "/a b\n"}) == b"/a%20b%0A"
