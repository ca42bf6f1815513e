"""Forms with files in them: read as they arrive, judged, and sent on written anew."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from govmiddleware.core.body import RequestBody
from govmiddleware.core.form import FormBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.middleware._form import IN_MEMORY, LARGEST_TEXT, MOST_PARTS, is_form, read_form
from govmiddleware.protocols.openai_audio import OpenAITranscriptions
from govmiddleware.protocols.openai_images import OpenAIImages

TYPE = b"multipart/form-data; boundary=cut"
PICTURE = bytes(range(256)) * 8


def part(name: str, value: bytes, *more: str) -> bytes:
    head = f'--cut\r\nContent-Disposition: form-data; name="{name}"{"".join(more)}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--cut--\r\n"


HEARD = (part("model", b"whisper-1"), part("file", PICTURE, '; filename="a.mp3"'))


async def parse(raw: bytes, cuts: Sequence[int] = (), content_type: bytes = TYPE) -> FormBody:
    async def chunks() -> AsyncIterator[bytes]:
        ends = sorted({cut % (len(raw) + 1) for cut in cuts} | {0, len(raw)})
        for start, end in pairwise(ends):
            yield raw[start:end]

    return await read_form(content_type, chunks())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=8), st.binary(max_size=60))
async def test_a_form_is_read_the_same_however_it_arrives_and_sent_on_as_it_was_read(
    cuts: list[int], tail: bytes
) -> None:
    file = PICTURE + tail
    raw = form(
        part("a", b"1"), part("x[]", b"one"), part("f", file, '; filename="q\\"\xfc.bin"'), part("x[]", b"")
    )
    body = await parse(raw, cuts)
    for _ in range(2):  # what was sent on reads the same again
        assert (body.raw("a"), body.raw("x[]")) == (b'"1"', b'["one",""]')
        [uploaded] = body.files
        assert uploaded.read() == file
        assert uploaded.read(3) == file[:3]
        assert uploaded.size == len(file)
        sent = body.serialise()
        assert len(body) == len(sent)
        body.close()
        body = await parse(sent, cuts, body.content_type)
    body.close()


async def test_a_large_file_is_kept_on_disk() -> None:
    small, large = bytes(IN_MEMORY), bytes(IN_MEMORY + 1)
    for file, is_on_disk in ((small, False), (large, True)):
        body = await parse(form(part("file", file, '; filename="a"')))
        assert body.files[0].file._rolled is is_on_disk  # type: ignore[attr-defined]
        assert b"".join(body.pieces()).count(b"\0") == len(file)
        body.close()


@pytest.mark.parametrize(
    ("raw", "content_type", "problem"),
    [
        (b"", TYPE, "not whole"),
        (form(*HEARD)[:-10], TYPE, "not whole"),
        (form(*HEARD), b"multipart/form-data", "no boundary"),
        (form(*HEARD), b"multipart/form-data; boundary=" + b"x" * 999, "cannot|can be read"),
        (b"{}", TYPE, "can be read"),
        (form(b"--cut\r\n\r\nx\r\n"), TYPE, "no name"),
        (form(b"--cut\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n"), TYPE, "no name"),
        (form(part("a", b"\xff")), TYPE, "UTF-8"),
        (form(part("a", b"x" * (LARGEST_TEXT + 1))), TYPE, "longer than"),
        (form(*[part("a", b"x")] * (MOST_PARTS + 1)), TYPE, "parts"),
        (form(part("a", b"eA==").replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n")), TYPE,
         "Transfer"),
    ],
)  # fmt: skip
async def test_what_is_no_whole_form_is_refused(raw: bytes, content_type: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        await parse(raw, content_type=content_type)


@pytest.mark.parametrize(
    "parts",
    [
        (*HEARD, part("model", b"other")),
        (*HEARD, part("Model", b"other")),
        (*HEARD, part("model[]", b"other")),
        (*HEARD, part("model", b"other", '; filename="m"')),
        (*HEARD, part("fallbacks", b'["other"]')),
        (*HEARD, part("api_base", b"http://elsewhere")),
        (*HEARD, part("url", b"https://example.org/long.mp3")),
        (*HEARD, HEARD[1]),
        HEARD[:1],
        HEARD[1:],
    ],
)
async def test_what_may_be_read_otherwise_than_it_was_judged_is_refused(parts: tuple[bytes, ...]) -> None:
    body = await parse(form(*parts))
    with pytest.raises(InvalidRequest):
        OpenAITranscriptions("transcriptions").read_request(body)
    body.close()


async def test_what_a_form_says_decides_as_what_json_says() -> None:
    fields = {"model": "gpt-image-1", "prompt": "A hat", "n": 2, "size": "1024x1024", "quality": "low"}
    texts = [part(name, str(value).encode()) for name, value in fields.items()]
    body = await parse(form(*texts, part("stream", b"true"), part("image[]", PICTURE, '; filename="a.png"')))
    info = OpenAIImages("edits").read_request(body)
    assert (info.model, info.choices, info.stream, info.unknown_parts) == ("gpt-image-1", 2, True, 1)
    assert (info.output_tokens, list(info.texts)) == (272, ["A hat"])
    from_json = json.dumps({**fields, "stream": True, "images": [{"file_id": "file-1"}]}).encode()
    assert OpenAIImages("edits").read_request(RequestBody(from_json)) == info
    body.close()


def test_a_form_is_known_by_its_type() -> None:
    assert is_form(b"Multipart/Form-Data ; boundary=x")
    assert not is_form(b"multipart/form-data-more; boundary=x")
    assert not is_form(b"application/json")
