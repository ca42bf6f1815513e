"""Counting a prompt's tokens: what came before from memory, what is large without holding up the event loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import msgspec

from govmiddleware.core.body import RequestBody
from govmiddleware.core.count_memory import CountMemory
from govmiddleware.core.parts import Part, RawPart
from govmiddleware.core.ports import RequestInfo, WireProtocol
from govmiddleware.core.tokens import count_each, encoding_for, is_loaded
from govmiddleware.metrics import Metrics
from govmiddleware.services.turns import compute

_INLINE_CHARACTERS = 8_192
_INLINE_TEXTS = 500
"""Up to here counting takes about a millisecond; handing it to a thread would cost more than it saves."""

_LEAST_TEXT = 512
"""Characters. To count a shorter text takes no longer than to look it up."""

_LEAST_REMEMBERED = 256
"""Bytes of a part, in the mean. To read and count a shorter one costs little more than to look it up."""

_LEAST_PART = 64
"""Bytes of a part among longer ones: to read one costs more than to count it."""

_MOST_PARTS = 32_768
"""Remembered by one process, beside the texts: about 11 MB."""

_BYTES_A_COMMA = 8
_BYTES_AN_OBJECT = 64
"""Where there are more, an array may have so many elements that to cut it into them takes long, at once and under the
GIL."""

_array = msgspec.json.Decoder(list[msgspec.Raw])


class TokenCounter:
    """Counts for the requests of one Governance.

    Args:
        metrics: told how many characters were counted, and how many were not for they were known.
    """

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._texts: CountMemory[int] = CountMemory()
        self._parts: CountMemory[Part] = CountMemory(_MOST_PARTS)
        self._counted = self._known = None
        if metrics is not None:
            self._counted, self._known = map(metrics.counted_characters.labels, ("counter", "memory"))

    def look_up(
        self, body: RequestBody, protocol: WireProtocol, *, path: str, query: bytes, workspace: str = ""
    ) -> int:
        """Fill `RequestBody.parts`; returns how many bytes of the body are left to be read. Takes a millisecond for
        a megabyte."""
        named = body.raw("model") or b""
        context = "\n".join((protocol.name, path, query.decode("latin-1"), named.decode("utf-8", "replace")))
        found: dict[str, Sequence[RawPart]] = {}
        unknown = sum(map(len, body.fields.values()))
        for name in filter(None, (protocol.history, *protocol.preamble)):
            raw = body.raw(name)
            if raw is None or len(raw) < _LEAST_REMEMBERED:
                continue
            raws = _elements(raw) if name == protocol.history else [raw]
            if raws is None or len(raws) * _LEAST_REMEMBERED > len(raw):
                continue
            long = [each for each in raws if len(each) >= _LEAST_PART]
            keys = self._parts.keys(long, f"{name}\n{context}")
            looked_up = zip(long, keys, self._parts.recall(workspace, keys), strict=True)
            found[name] = parts = list(_in_order(raws, map(RawPart._make, looked_up)))
            unknown -= sum(len(part.raw) for part in parts if part.known is not None)
        body.parts = found
        return unknown

    async def count_prompt(self, info: RequestInfo, *, workspace: str = "") -> int:
        """The tokens of all of a request's texts. Its parts are remembered."""
        counts = await self._count_each(info.texts, info.model, workspace)
        if info.new_parts:
            new = []
            for key, start, end, part in info.new_parts:
                text_bytes = sum(map(_utf8_bytes, info.texts[start:end]))
                new.append((key, part._replace(tokens=sum(counts[start:end]), text_bytes=text_bytes)))
            self._parts.remember(workspace, new)
        if info.known_bytes:
            self._tell(info.known_bytes, 0)
        return info.known_tokens + sum(counts)

    async def count(self, texts: Sequence[str], model: str, *, workspace: str = "") -> int:
        """The tokens of `texts` in the encoding of `model`; long ones are remembered for the workspace."""
        return sum(await self._count_each(texts, model, workspace))

    async def _count_each(self, texts: Sequence[str], model: str, workspace: str) -> list[int]:
        if not texts:
            return []
        encoding = encoding_for(model)
        is_short = len(texts) <= _INLINE_TEXTS and sum(map(len, texts)) <= _INLINE_CHARACTERS
        if is_short and is_loaded(encoding):
            return self._counts(texts, encoding, workspace)
        return await compute(partial(self._counts, texts, encoding, workspace))

    def _counts(self, texts: Sequence[str], encoding: str, workspace: str) -> list[int]:
        long = [text for text in texts if len(text) >= _LEAST_TEXT]
        if not long:
            return count_each(texts, encoding=encoding)
        keys = self._texts.keys(long, encoding)
        known = zip(long, self._texts.recall(workspace, keys), strict=True)
        counts = {text: count for text, count in known if count is not None}
        new = [text for text in dict.fromkeys(texts) if text not in counts]
        if new:
            counts.update(zip(new, count_each(new, encoding=encoding), strict=True))
            self._texts.remember(workspace, zip(keys, map(counts.__getitem__, long), strict=True))
        self._tell(sum(map(len, long)), sum(len(text) for text in new if len(text) >= _LEAST_TEXT))
        return [counts[text] for text in texts]

    def _tell(self, seen: int, counted: int) -> None:
        if self._counted is not None and self._known is not None:
            self._counted.value += counted
            self._known.value += seen - counted


def _elements(raw: bytes) -> list[bytes] | None:
    """Those of an array; None for what is none, and for one that may have very many."""
    if not raw.startswith(b"[") or raw.count(b",") * _BYTES_A_COMMA > len(raw):
        return None
    # Braces are counted faster than pairs of objects; but texts have them too, as in code.
    if raw.count(b"{") * _BYTES_AN_OBJECT > len(raw):
        objects = raw.count(b'},{"') + raw.count(b'}, {"')  # in a string, a quote is escaped
        if objects * _BYTES_AN_OBJECT > len(raw):
            return None
    try:
        return [bytes(each) for each in _array.decode(raw)]
    except (msgspec.DecodeError, RecursionError):
        return None


def _in_order(raws: Sequence[bytes], long: Iterator[RawPart]) -> Iterator[RawPart]:
    """All parts, the short ones between those that were looked up."""
    return (next(long) if len(raw) >= _LEAST_PART else RawPart(raw, None, None) for raw in raws)


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
