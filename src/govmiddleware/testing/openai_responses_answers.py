"""The bodies of a mock of OpenAI's responses API: answers and their streams. Pure.

A token is a word here, in prompts and answers alike.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass

from govmiddleware.testing.words import Json, dump, split, words_in, words_of


@dataclass(frozen=True, slots=True)
class Response:
    """One answer, of which JSON and events are two renderings.

    Attributes:
        text: what is said, or the arguments of the tool's call, as JSON text.
        tool: the name of the function that is called, if one is.
        background: whether it is generated later: then the answer that is not a stream says nothing yet.
        whole: whether the output limit left all of it.
        usage: in the API's own shape.
    """

    id: str
    created: int
    model: str
    text: str
    tool: str | None
    background: bool
    whole: bool
    usage: Json

    def as_json(self) -> bytes:
        """The whole answer, or where it is generated later the receipt of the request."""
        return dump(self._response("queued" if self.background else self._status, done=not self.background))

    def as_events(self, *, pieces: int) -> Iterator[bytes]:
        """The answer as server-sent events, its text in at most `pieces` of them."""
        for number, event in enumerate(self._events(pieces)):
            numbered = {**event, "sequence_number": number}
            yield b"event: " + event["type"].encode() + b"\ndata: " + dump(numbered) + b"\n\n"

    @property
    def _status(self) -> str:
        return "completed" if self.whole else "incomplete"

    def _events(self, pieces: int) -> Iterator[Json]:
        for name in ("created", "in_progress"):
            yield {"type": f"response.{name}", "response": self._response("in_progress", done=False)}
        place: Json = {"output_index": 0}
        within: Json = {"item_id": self._item(done=False)["id"], **place}
        yield {"type": "response.output_item.added", **place, "item": self._item(done=False)}
        if self.tool is not None:
            yield from self._told("response.function_call_arguments", within, "arguments", pieces)
        else:
            within |= {"content_index": 0}
            yield {"type": "response.content_part.added", **within, "part": _part("")}
            yield from self._told("response.output_text", {**within, "logprobs": []}, "text", pieces)
            yield {"type": "response.content_part.done", **within, "part": _part(self.text)}
        yield {"type": "response.output_item.done", **place, "item": self._item(done=True)}
        yield {"type": f"response.{self._status}", "response": self._response(self._status, done=True)}

    def _told(self, what: str, within: Json, member: str, pieces: int) -> Iterator[Json]:
        for piece in split(self.text, pieces):
            yield {"type": f"{what}.delta", **within, "delta": piece}
        yield {"type": f"{what}.done", **within, member: self.text}

    def _item(self, *, done: bool) -> Json:
        status = self._status if done else "in_progress"
        if self.tool is not None:
            call = {"type": "function_call", "name": self.tool, "arguments": self.text if done else ""}
            return {"id": f"fc_{self.id[5:]}", "call_id": f"call_{self.id[-24:]}", "status": status, **call}
        content = [_part(self.text)] if done else []
        message = {"type": "message", "role": "assistant", "content": content}
        return {"id": f"msg_{self.id[5:]}", "status": status, **message}

    def _response(self, status: str, *, done: bool) -> Json:
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": self.background,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": None,
            "metadata": {},
            "model": self.model,
            "output": [self._item(done=True)] if done else [],
            "parallel_tool_calls": True,
            "service_tier": "default",
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0,
            "usage": self.usage if done else None,
        }


def respond(body: Json, *, text: str, tool: str | None, model: str | None, usage: Json | None) -> Response:
    """Answer a request with `text`, cut to what the request allows. The arguments are those of `complete`."""
    words = words_of(text)
    kept = words[: body.get("max_output_tokens")]
    return Response(
        id=f"resp_{secrets.token_hex(25)}",
        created=int(time.time()),
        model=model or body["model"],
        text="".join(kept),
        tool=tool,
        background=bool(body.get("background")),
        whole=len(kept) == len(words),
        usage=usage or counted_usage(_prompt_tokens(body), len(kept)),
    )


def compact(body: Json, *, usage: Json | None) -> bytes:
    """Answer a request to compact a conversation: into one sealed item, of as many words as it had."""
    words = _prompt_tokens(body)
    item = {"id": f"cmp_{secrets.token_hex(25)}", "type": "compaction", "encrypted_content": "gAAAA" * 20}
    return dump(
        {
            "id": f"resp_{secrets.token_hex(25)}",
            "object": "response.compaction",
            "created_at": int(time.time()),
            "output": [item],
            "usage": usage or counted_usage(words, words),
        }
    )


def count(body: Json) -> bytes:
    """Answer a request for the number of its input tokens."""
    return dump({"object": "response.input_tokens", "input_tokens": _prompt_tokens(body)})


def counted_usage(given: int, generated: int) -> Json:
    """A response's `usage`."""
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": generated,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + generated,
    }


def _prompt_tokens(body: Json) -> int:
    given = body.get("input") or []
    items = [{"content": given}] if isinstance(given, str) else given
    said = sum(words_in(item.get("content") or item.get("output")) for item in items)
    return said + words_in(body.get("instructions"))


def _part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
