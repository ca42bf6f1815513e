"""How a stream of a response is ended before its time: as if the model had reached its output limit.

Source: platform.openai.com/docs/api-reference/responses-streaming, and what openai-python's `ResponseStreamState`
asks of a stream.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from govmiddleware.core.usage import Usage

Json = dict[str, Any]
Place = tuple[int, str, int]
"""Something that is told in several events: the item's index, what it is, and the index of the part of the item."""

_ITEM = "response.output_item"
_PARTS = {"response.content_part": "content", "response.reasoning_summary_part": "summary"}
"""Parts of items, by the list of the item that they are in."""

_TEXTS = {
    "response.output_text": ("content", "text"),
    "response.refusal": ("content", "refusal"),
    "response.reasoning_text": ("content", "text"),
    "response.reasoning_summary_text": ("summary", "text"),
    "response.function_call_arguments": ("", "arguments"),
    "response.custom_tool_call_input": ("", "input"),
}
"""What comes in deltas: the list that its part is in, none where it is the item's own, and the member it makes up."""

_INDEXES = {"content": "content_index", "summary": "summary_index"}
_ITSELF = -1
"""The index where something is no part, but the item or its own."""


class Ending:
    """Follows a stream, and writes the end of it that clients take for that of an incomplete response.

    It keeps what was told, for the last events repeat all of it.
    """

    def __init__(self) -> None:
        self._sequence_number = 0
        self._response: Json | None = None
        self._items: dict[int, Json] = {}
        self._parts: dict[tuple[int, str, int], Json] = {}
        self._texts: dict[Place, list[str]] = {}
        self._open: dict[Place, None] = {}

    def note(self, said: Json) -> None:
        """One event, which the client has got."""
        number, index, kind = said.get("sequence_number"), said.get("output_index"), str(said.get("type"))
        if isinstance(number, int):
            self._sequence_number = number + 1
        if isinstance(said.get("response"), dict):
            self._response = said["response"]
        if isinstance(index, int):
            what, _, step = kind.rpartition(".")
            self._note((index, what, _part_index(said)), step, said)

    def write(self, usage: Usage, model: str, request_id: str) -> bytes:
        """The events that begin the response where it has not begun, end each item, and end the response."""
        events: list[Json] = []
        if self._response is None:
            self._response = _begun(model, request_id)
            events.append({"type": "response.created", "response": self._response})
        # What was opened last ends first: texts before their parts, and parts before their items.
        events += [self._close(place) for place in reversed(self._open) if place[0] in self._items]
        response = {
            **self._response,
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [item for _, item in sorted(self._items.items())],
            "usage": _reported(usage),
        }
        events.append({"type": "response.incomplete", "response": response})
        first = self._sequence_number
        return b"".join(_event({**event, "sequence_number": first + n}) for n, event in enumerate(events))

    def _note(self, place: Place, step: str, said: Json) -> None:
        index, what, part_index = place
        item, part, delta = said.get("item"), said.get("part"), said.get("delta")
        if what == _ITEM and isinstance(item, dict):
            self._items[index] = item
        elif what in _PARTS and isinstance(part, dict):
            self._parts[index, _PARTS[what], part_index] = part
        elif what in _TEXTS and isinstance(delta, str):
            self._texts.setdefault(place, []).append(delta)
        elif step != "done":
            return
        if step == "done":
            self._open.pop(place, None)
        else:
            self._open[place] = None

    def _close(self, place: Place) -> Json:
        """The event that ends one thing."""
        index, what, part_index = place
        item = self._items[index]
        if what == _ITEM:
            item = self._items[index] = self._as_told(index, item)
            return {"type": f"{what}.done", "output_index": index, "item": item}
        event: Json = {"type": f"{what}.done", "item_id": item.get("id"), "output_index": index}
        if what in _PARTS:
            holder = _PARTS[what]
            part = self._parts[index, holder, part_index]
            event["part"] = {**part, **self._texts_of(index, holder, part_index)}
        else:
            holder, member = _TEXTS[what]
            event[member] = "".join(self._texts[place])
        if holder:
            event[_INDEXES[holder]] = part_index
        if what == "response.output_text":
            event["logprobs"] = []
        elif what == "response.function_call_arguments":
            event["name"] = item.get("name")
        return event

    def _as_told(self, index: int, item: Json) -> Json:
        """An item that was not told to its end."""
        whole = {**item, **self._texts_of(index, "", _ITSELF), "status": "incomplete"}
        for holder in _INDEXES:
            parts = {
                i: part for (of, list_, i), part in self._parts.items() if (of, list_) == (index, holder)
            }
            if parts:
                whole[holder] = [
                    {**part, **self._texts_of(index, holder, i)} for i, part in sorted(parts.items())
                ]
        return whole

    def _texts_of(self, index: int, holder: str, part_index: int) -> Json:
        """The texts that belong to an item or a part of one, by member."""
        return {
            member: "".join(self._texts[index, what, part_index])
            for what, (of, member) in _TEXTS.items()
            if of == holder and (index, what, part_index) in self._texts
        }


def _part_index(said: Json) -> int:
    indexes = (said.get(name) for name in _INDEXES.values())
    return next((index for index in indexes if isinstance(index, int)), _ITSELF)


def _begun(model: str, request_id: str) -> Json:
    return {
        "id": f"resp_{request_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _reported(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def _event(event: Json) -> bytes:
    name: str = event["type"]
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(event) + b"\n\n"
