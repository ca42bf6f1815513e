"""The body of a request that is a form with files in it (RFC 7578)."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest

_PIECE = 65_536
_READ_AS = {'"': "%22", "\r": "%0D", "\n": "%0A"}
"""How names are written in a header: as browsers do (WHATWG HTML, "Multipart form data")."""


class FormFile(msgspec.Struct, frozen=True):
    """One file that was uploaded.

    Attributes:
        name: of the field.
        file: its bytes, `size` of them, which may be on disk.
    """

    name: str
    filename: str
    content_type: str
    file: BinaryIO
    size: int

    def read(self, count: int = -1) -> bytes:
        """The first `count` bytes; all by default."""
        self.file.seek(0)
        return self.file.read(count)


class FormBody(RequestBody):
    """A form kept as its fields, by name, and its files. It is written anew when it is sent on: every upstream then
    reads the same parts, however it would have read the ones that came.

    To the readers of requests each field is its text as a JSON string, or a list of them where it came more than once.
    """

    __slots__ = ("_boundary", "content_type", "files")

    typed = False

    def __init__(self, fields: dict[str, list[str]], files: Sequence[FormFile]) -> None:
        self.fields = {
            name: msgspec.json.encode(texts[0] if len(texts) == 1 else texts)
            for name, texts in fields.items()
        }
        self.parts = {}
        self._serialised = None
        self.files = tuple(files)
        self._boundary = f"gov-{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={self._boundary}".encode()

    def refuse_look_alikes(self, names: frozenset[str]) -> None:
        """As of other bodies; a name may also be written as that of a list or of an object (`model[]`), from which
        some upstreams take off what is in brackets. Raises InvalidRequest."""
        for field in (*self.fields, *(file.name for file in self.files)):
            plain = field.partition("[")[0].casefold()
            if field not in names and plain in names:
                raise InvalidRequest(f"Write {plain!r} as it is.", param=field)

    def serialise(self) -> bytes:
        return b"".join(self.pieces())

    def pieces(self) -> Iterator[bytes]:
        yield from self._texts()
        for file in self.files:
            yield self._file_head(file)
            file.file.seek(0)
            while piece := file.file.read(_PIECE):
                yield piece
            yield b"\r\n"
        yield self._end

    def close(self) -> None:
        for file in self.files:
            file.file.close()

    def __len__(self) -> int:
        files = sum(len(self._file_head(file)) + file.size + 2 for file in self.files)
        return sum(map(len, self._texts())) + files + len(self._end)

    @property
    def _end(self) -> bytes:
        return f"--{self._boundary}--\r\n".encode()

    def _texts(self) -> Iterator[bytes]:
        for name, value in self.fields.items():
            decoded = msgspec.json.decode(value)
            for text in decoded if isinstance(decoded, list) else [decoded]:
                yield self._head(name) + b"\r\n" + str(text).encode() + b"\r\n"

    def _head(self, name: str, more: str = "") -> bytes:
        return (
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"{more}\r\n'.encode()
        )

    def _file_head(self, file: FormFile) -> bytes:
        named = f'; filename="{_quoted(file.filename)}"'
        return self._head(file.name, named) + f"Content-Type: {file.content_type}\r\n\r\n".encode()


def _quoted(name: str) -> str:
    return "".join(_READ_AS.get(character, character) for character in name)
