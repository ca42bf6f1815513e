"""What in a request becomes prompt: the texts to count, and the parts that have no text.

Every string counts unless it is known not to reach the model as text, so that nothing dear hides in a
field that we do not know but the upstream does.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.parts import NewPart, Part, RawPart
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.escapes import asks_for_an_hour
from govmiddleware.protocols.fields import decode, read
from govmiddleware.protocols.inline_media import file_text, file_tokens

T = TypeVar("T")

_MARKS = frozenset(
    {
        "role",
        "type",
        "id",
        "tool_call_id",
        "tool_use_id",
        "toolUseId",
        "index",
        "cache_control",
        "detail",
        "format",
        "call_id",
        "status",
        "phase",
        "execution",
    }
)
"""Fields that mark and are not said; counted all the same where they are longer than marks are."""
_LONGEST_MARK = 128

_MEDIA = frozenset(
    {"image_url", "input_audio", "file", "video_url", "audio_url", "document_url", "image", "input_image"}
)
"""Keys of parts whose size in tokens does not show in their text."""


SEARCHES = 5
"""Reserved for a hosted search that does not say how many it makes at most: an allowance, not a bound."""

MOST_SEARCHES = 1000
"""A larger `max_uses` bounds nothing."""


def searches_of(tool: dict[str, Any]) -> int:
    """How many searches to reserve for a hosted tool that makes them: its `max_uses`, which OpenRouter has among the
    tool's `parameters`."""
    parameters = tool.get("parameters")
    most = (parameters if isinstance(parameters, dict) else tool).get("max_uses")
    return most if isinstance(most, int) and 0 <= most < MOST_SEARCHES else SEARCHES


def read_history(body: RequestBody, name: str) -> list[Any] | None:
    """The elements of an array, those that are known as their Part; None where it is absent or null. Raises
    InvalidRequest."""
    parts = body.parts.get(name)
    if parts is None:
        return read(body, name, list[Any])
    return [
        decode(part.raw, object, f"{name}[{place}]") if part.known is None else part.known
        for place, part in enumerate(parts)
    ]


def last_turn(elements: Sequence[Any], opens_turn: Callable[[Any], bool]) -> int:
    """Where the turn at hand begins, in a history as `read_history` has it."""
    for place in range(len(elements) - 1, -1, -1):
        element = elements[place]
        if element.opens_turn if isinstance(element, Part) else opens_turn(element):
            return place
    return 0


class Prompt:
    """Collects what one request puts before the model.

    Attributes:
        texts: those to be counted.
        unknown_parts: those whose size does not show.
        overhead_tokens: of what is no text.
        known_tokens, known_bytes: of the texts in parts that were read before.
        new_parts: those to be remembered.
        caches_for_an_hour: whether a part that was looked up may ask for that.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.unknown_parts = 0
        self.overhead_tokens = 0
        self.known_tokens = self.known_bytes = 0
        self.new_parts: list[NewPart] = []
        self.caches_for_an_hour = False
        self._has_files = False
        self._is_singular = False
        """Whether what is being read adds more than a Part says, or not the same everywhere."""

    @property
    def has_media(self) -> bool:
        """Whether there are pictures, sounds or documents in it, or may be."""
        return self._has_files or self.unknown_parts > 0

    def add_field(self, body: RequestBody, name: str, kind: type[T], add: Callable[[T], None]) -> bool:
        """One field by `add`, unless its part is known. Returns whether it says anything. Raises InvalidRequest."""
        [part] = body.parts.get(name, (None,))
        if part is not None and part.known is not None:
            self._add_known(part.known)
            return True
        value = read(body, name, kind)
        if value is None:
            return False
        if part is None:
            add(value)
        else:
            begun = self._begin()
            add(value)
            self._learn(part, begun)
        return bool(value)

    def _unknown(
        self,
        elements: Sequence[Any],
        parts: Sequence[RawPart],
        opens_turn: Callable[[Any], bool] = lambda element: False,
    ) -> Iterator[tuple[int, Any]]:
        """Those elements of an array that have to be read, with their places. What is added until the next one is
        asked for is theirs."""
        for place, element in enumerate(elements):
            if isinstance(element, Part):
                self._add_known(element)
            elif parts:
                begun = self._begin()
                yield place, element
                self._learn(parts[place], begun, opens_turn=opens_turn(element))
            else:
                yield place, element

    def _add_known(self, part: Part) -> None:
        self.known_tokens += part.tokens
        self.known_bytes += part.text_bytes
        self.overhead_tokens += part.overhead_tokens
        self.unknown_parts += part.unknown_parts
        self._has_files |= part.has_files
        self.caches_for_an_hour |= part.caches_for_an_hour

    def _begin(self) -> tuple[int, int, int, bool]:
        """Where the next part begins."""
        begun = len(self.texts), self.overhead_tokens, self.unknown_parts, self._has_files
        self._has_files = self._is_singular = False
        return begun

    def _learn(self, raw: RawPart, begun: tuple[int, int, int, bool], *, opens_turn: bool = False) -> None:
        """What was added since is of this part."""
        start, overhead, unknown, had_files = begun
        caches = asks_for_an_hour(raw.raw)
        if raw.key is not None and not self._is_singular:
            added = self.overhead_tokens - overhead, self.unknown_parts - unknown
            part = Part(0, 0, *added, self._has_files, caches, opens_turn)
            self.new_parts.append(NewPart(raw.key, start, len(self.texts), part))
        self._has_files |= had_files
        self.caches_for_an_hour |= caches

    def add_file(self, tokens: int | None) -> None:
        """A file of so many tokens, or of a size that does not show."""
        self._has_files = True
        self.overhead_tokens += tokens or 0
        self.unknown_parts += tokens is None

    def add_data(self, model: str, data: object, kind: str = "", detail: object = None) -> None:
        """A file in base64 or at a URL, as the model reads it: see `file_tokens`."""
        if not isinstance(data, str) or "://" in data[:16]:
            self.add_file(None)
        elif (text := file_text(data)) is not None:
            self.texts.append(text)
        else:
            self.add_file(file_tokens(model, data, kind, detail if isinstance(detail, str) else "auto"))

    def add_schema(self, schema: object, *, spaced: bool = False) -> None:
        """Counted as its JSON, keys and all, perhaps with a space after each comma and colon. Raises InvalidRequest
        where it has no such form."""
        try:
            encoded = msgspec.json.encode(schema)
            self.texts.append((msgspec.json.format(encoded, indent=0) if spaced else encoded).decode())
        except (OverflowError, RecursionError) as error:
            raise InvalidRequest("A schema is nested too deeply or has too large a number.") from error

    def add_unknown(self, raw: bytes) -> None:
        """A field that nobody here knows: counted as its JSON, where it is more than a mark."""
        if len(raw) > _LONGEST_MARK:
            self.texts.append(raw.decode("utf-8", "replace"))

    def add_unknown_fields(self, body: RequestBody, known: Container[str]) -> None:
        """All fields of a request that are none of `known`."""
        for name, raw in body.fields.items():
            if name not in known:
                self.add_unknown(raw)

    def add_plain(self, texts: list[str], message_tokens: int) -> None:
        """Messages that are nothing but a role and a text (see `large_json.plain_texts`)."""
        self.texts += texts
        self.overhead_tokens += len(texts) * message_tokens

    def add(self, value: object) -> None:
        """All strings in a decoded JSON value, however deep."""
        pending = [value]
        while pending:
            value = pending.pop()
            if isinstance(value, str):
                self._add_text(value)
            elif isinstance(value, list):
                pending.extend(value)
            elif isinstance(value, dict):
                pending.extend(self._said(value))

    def _said(self, part: dict[str, Any]) -> list[Any]:
        """The members of an object that the model may read; media are parts of unknown size."""
        said = []
        for key, member in part.items():
            if key in _MEDIA and isinstance(member, dict | str):
                self.unknown_parts += 1
            elif key not in _MARKS or not _is_mark(member):
                said.append(member)
        return said

    def _add_text(self, text: str) -> None:
        if text.startswith("data:") and ";base64," in text[:256]:
            self.unknown_parts += 1  # base64 is never what the model reads
        elif text:
            self.texts.append(text)


def _is_mark(value: object) -> bool:
    return not isinstance(value, str | list | dict) or (
        isinstance(value, str) and len(value) <= _LONGEST_MARK
    )
