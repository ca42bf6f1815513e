"""The lines of a replay file: one recorded exchange each, as JSON; the file may be compressed with gzip."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from govmiddleware.errors import ConfigurationError
from govmiddleware.settings_fields import check_name, check_workspace

LONGEST_LINE = 128 * 1024 * 1024
"""Bytes. A longer line is read over: one line must not take all memory."""

_GZIP = b"\x1f\x8b"
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its answer.

    Attributes:
        request: the JSON body that was sent; null for a request without one, which is a GET.
        response, response_text: the body that was received, as JSON or as a text.
        at: when it was sent.
        workspace, api_token: whose it was; the others: on whose behalf.
    """

    id: str | None = None
    protocol: str | None = None
    host: str | None = None
    path: str = ""
    query: str | None = None
    status: int = 200
    content_type: str | None = None
    request: msgspec.Raw = msgspec.Raw(b"null")
    response: msgspec.Raw = msgspec.Raw(b"null")
    response_text: str | None = None
    at: datetime | None = None
    workspace: str | None = None
    api_token: str | None = None
    user: str | None = None
    session: str | None = None
    agent: str | None = None
    tags: dict[str, str] | None = None

    @property
    def request_body(self) -> bytes:
        return b"" if self.request == b"null" else bytes(self.request)

    @property
    def answer(self) -> bytes:
        """The body that was received."""
        if self.response_text is not None:
            return self.response_text.encode("utf-8", "replace")
        return b"" if self.response == b"null" else bytes(self.response)


class BadLine(ValueError):
    """A line that is no exchange."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code


_decoder = msgspec.json.Decoder(Exchange)


def read_exchange(line: bytes | None) -> Exchange:
    """Raises BadLine."""
    if line is None:
        raise BadLine("line_too_long", f"The line has more than {LONGEST_LINE} bytes.")
    try:
        exchange = _decoder.decode(line)
    except msgspec.ValidationError as error:
        raise BadLine("invalid_line", f"The line is not an exchange: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine("invalid_json", f"The line is not JSON: {error}.") from None
    try:
        check_workspace("default" if exchange.workspace is None else exchange.workspace)
        check_name("replay" if exchange.api_token is None else exchange.api_token)
    except ValueError as error:
        raise BadLine("invalid_line", f"workspace and api_token must be names: {error}.") from None
    if not 100 <= exchange.status <= 599:
        raise BadLine("invalid_line", f"status is {exchange.status}: expected one of HTTP, 100 to 599.")
    if exchange.at is not None and not _EARLIEST <= _in_utc(exchange.at) < _LATEST:
        raise BadLine("invalid_line", f"at is {exchange.at}: expected a time from 2000 to 2099.")
    return msgspec.structs.replace(exchange, at=None if exchange.at is None else _in_utc(exchange.at))


def read_lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """The number of each line that is not empty, and its bytes; None for one that is too long.

    Raises ConfigurationError where the file cannot be read, also in its midst.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(_GZIP))
            file.seek(0)
            lines: BinaryIO = io.BufferedReader(gzip.GzipFile(fileobj=file)) if start == _GZIP else file
            yield from _numbered(lines)
    except (OSError, EOFError, zlib.error) as error:
        problem = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError("FILE", str(path), f"a file that can be read ({problem})") from None


def _numbered(lines: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    number = 0
    while line := lines.readline(LONGEST_LINE):
        number += 1
        is_whole = len(line) < LONGEST_LINE or line.endswith(b"\n")
        while not is_whole:
            rest = lines.readline(LONGEST_LINE)
            is_whole = len(rest) < LONGEST_LINE or rest.endswith(b"\n")
            line = b""
        if line.strip() or not line:
            yield number, line or None


def _in_utc(moment: datetime) -> datetime:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
