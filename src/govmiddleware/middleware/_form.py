"""Forms with files in them: read as they arrive, so that what is uploaded need not be in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from govmiddleware.core.form import FormBody, FormFile
from govmiddleware.core.refusals import InvalidRequest

IN_MEMORY = 1024 * 1024
"""Bytes of a file beyond which it is kept on disk."""
LARGEST_TEXT = 1024 * 1024
"""Bytes of a field that is no file."""
MOST_PARTS = 256

_PLAIN = frozenset(map(chr, range(32, 127)))


def is_form(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"multipart/form-data"


async def read_form(content_type: bytes, chunks: AsyncIterator[bytes]) -> FormBody:
    """Raises InvalidRequest where the body is not one whole form with fields and files of bounded number; whatever
    `chunks` raises passes. Who gets the form closes it."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("The form has no boundary in its Content-Type.", param="content-type")
    reader = _Reader(boundary)
    try:
        async for chunk in chunks:
            reader.feed(chunk)
        return reader.form()
    except BaseException:
        reader.close()
        raise


class _Reader:
    """Collects the parts of one form. Driven by the parser, for which the callbacks are made."""

    def __init__(self, boundary: bytes) -> None:
        self._fields: dict[str, list[str]] = {}
        self._files: list[FormFile] = []
        self._header = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._text = bytearray()
        self._file: SpooledTemporaryFile[bytes] | None = None
        self._named: dict[bytes, bytes] = {}
        self._ended = False
        self._parts = 0
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._note(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._note(1, data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": lambda data, start, end: self._take(data[start:end]),
                    "on_part_end": self._close_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _unreadable(error) from error

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _unreadable(error) from error

    def form(self) -> FormBody:
        if not self._ended:
            raise InvalidRequest("The form is not whole.")
        return FormBody(self._fields, self._files)

    def close(self) -> None:
        for file in (self._file, *(each.file for each in self._files)):
            if file is not None:
                file.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.")
        self._headers.clear()
        self._text.clear()

    def _note(self, place: int, data: bytes) -> None:
        self._header[place] += data

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.lower()] = value
        self._header = [b"", b""]

    def _open(self) -> None:
        disposition, self._named = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in self._named:
            raise InvalidRequest("A part of the form has no name.")
        # Obsolete (RFC 7578, 4.7), and some would decode it.
        if b"content-transfer-encoding" in self._headers:
            raise InvalidRequest("A part of the form has a Content-Transfer-Encoding.")
        if b"filename" in self._named:
            self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - the form closes it

    def _take(self, data: bytes) -> None:
        if self._file is not None:
            self._file.write(data)
            return
        self._text += data
        if len(self._text) > LARGEST_TEXT:
            raise InvalidRequest(f"A field of the form is longer than {LARGEST_TEXT} bytes.")

    def _close_part(self) -> None:
        name = _text(self._named[b"name"])
        if self._file is None:
            self._fields.setdefault(name, []).append(_text(self._text))
            return
        kind = self._headers.get(b"content-type", b"").decode("latin-1")
        file, self._file = self._file, None
        self._files.append(
            FormFile(
                name,
                _text(self._named[b"filename"]),
                kind if kind and _PLAIN.issuperset(kind) else "application/octet-stream",
                cast(BinaryIO, file),
                file.tell(),
            )
        )

    def _end(self) -> None:
        self._ended = True


def _text(raw: bytes | bytearray) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("The form has a name or a text that is not UTF-8.") from error


def _unreadable(error: Exception) -> InvalidRequest:
    return InvalidRequest(f"The request body is not a form that can be read: {error}")
