"""How a stream of Gemini's is ended before its time: as if the model had reached its output limit."""

from __future__ import annotations

from typing import Any

import msgspec

from govmiddleware.core.usage import Usage
from govmiddleware.protocols.proto_json import elements
from govmiddleware.protocols.readers import count_or_none


class Ending:
    """Follows a stream, and writes the chunk that clients take for the last of a whole answer.

    Attributes:
        told_why: whether every candidate has its reason to finish, or the prompt was not answered at all.
    """

    def __init__(self) -> None:
        self.told_why = False
        self._head: dict[str, Any] = {}
        self._finished: dict[int, bool] = {}

    def note(self, chunk: dict[str, Any]) -> None:
        """One chunk, which the client has got."""
        self._head |= {name: chunk[name] for name in ("modelVersion", "responseId") if name in chunk}
        for candidate in elements(chunk.get("candidates")):
            if isinstance(candidate, dict):
                index = count_or_none(candidate.get("index")) or 0
                reason = bool(candidate.get("finishReason"))
                self._finished[index] = self._finished.get(index, False) or reason
        feedback = chunk.get("promptFeedback")
        blocked = not self._finished and isinstance(feedback, dict) and "blockReason" in feedback
        self.told_why = blocked or (bool(self._finished) and all(self._finished.values()))

    def write(self, usage: Usage, model: str, request_id: str) -> bytes:
        """The chunk that ends each candidate; nothing where that was said."""
        if self.told_why:
            return b""
        unfinished = [index for index, finished in sorted(self._finished.items()) if not finished]
        content = {"parts": [{"text": ""}], "role": "model"}
        chunk = {
            "candidates": [
                {"content": content, "finishReason": "MAX_TOKENS", "index": index}
                for index in unfinished or [0]
            ],
            "usageMetadata": {
                "promptTokenCount": usage.input_tokens,
                "candidatesTokenCount": usage.output_tokens,
                "totalTokenCount": usage.total_tokens,
            },
            "modelVersion": model,
            "responseId": request_id,
            **self._head,
        }
        return msgspec.json.encode(chunk)
