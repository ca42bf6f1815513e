"""The body of a governed request: what was judged is what is sent on."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from govmiddleware.core.refusals import InvalidRequest

if TYPE_CHECKING:
    from govmiddleware.core.form import FormFile
    from govmiddleware.core.parts import RawPart

_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class RequestBody:
    """A JSON object kept as its top-level fields, each still in the bytes that arrived.

    Of duplicate keys the last wins (as in most parsers), and only that one is sent on, so that what
    was judged and what the upstream reads cannot differ. Values that nobody edits stay byte for byte.

    Attributes:
        fields: the JSON text of each field; edits go by `set`.
        parts: of the fields that hold its prompt, what was looked up of their parts.
        content_type: as what it is sent on.
        typed: whether its values have types; else all are texts.
        files: what was uploaded with it.
    """

    __slots__ = ("_serialised", "fields", "parts")

    content_type: bytes = b"application/json"
    typed = True
    files: Sequence[FormFile] = ()

    def __init__(self, raw: bytes) -> None:
        """Raises InvalidRequest where `raw` is not one JSON object."""
        try:
            decoded = _decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidRequest(f"The request body is not a valid JSON object: {error}") from error
        self.fields: dict[str, bytes] = dict(zip(decoded, map(bytes, decoded.values()), strict=True))
        self.parts: Mapping[str, Sequence[RawPart]] = {}
        self._serialised: bytes | None = None

    def refuse_look_alikes(self, names: frozenset[str]) -> None:
        """Refuse keys that differ from one of `names` (all lower case) by letter case alone.

        Go's encoding/json matches keys without case, so an upstream in Go would read `MODEL` where we
        read `model`. It folds as Unicode does, for which `ſ` is an s and the Kelvin sign a k. Raises
        InvalidRequest.
        """
        for field in self.fields:
            if field not in names and field.casefold() in names:
                raise InvalidRequest(f"Write {field.casefold()!r} in lower case.", param=field)

    def names(self) -> KeysView[str]:
        """Of all fields."""
        return self.fields.keys()

    def raw(self, name: str) -> bytes | None:
        """The JSON text of one field, or None where it is absent."""
        return self.fields.get(name)

    def set(self, name: str, value: object) -> None:
        """Replace or add one field with a JSON-serialisable value."""
        self.fields[name] = msgspec.json.encode(value)
        self._serialised = None

    def serialise(self) -> bytes:
        """The body to send on; built once for each set of edits."""
        if self._serialised is None:
            raws = map(msgspec.Raw, self.fields.values())
            self._serialised = msgspec.json.encode(dict(zip(self.fields, raws, strict=True)))
        return self._serialised

    def pieces(self) -> Iterator[bytes]:
        """The body to send on, piece by piece."""
        return iter((self.serialise(),))

    def close(self) -> None:
        """Let go of what was uploaded."""

    def __len__(self) -> int:
        """The length of `pieces()` in bytes."""
        return len(self.serialise())
