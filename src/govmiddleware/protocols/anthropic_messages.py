"""Anthropic's messages, as Anthropic and everyone who speaks its dialect serve them.

POST …/v1/messages. Source: platform.claude.com/docs/en/api/messages, and the parameters that
anthropic-sdk-python 2.12 knows (`types/beta/message_create_params.py`).
"""

from __future__ import annotations

from govmiddleware.core.body import RequestBody
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach
from govmiddleware.protocols.anthropic_base import AnthropicRoute
from govmiddleware.protocols.anthropic_prompt import MESSAGE_TOKENS, MessagesPrompt
from govmiddleware.protocols.anthropic_reader import JsonReader, StreamReader
from govmiddleware.protocols.anthropic_user import read_user
from govmiddleware.protocols.escapes import (
    DEAR_MODES,
    may_cache_for_an_hour,
    refuse_dear_modes,
    refuse_dear_tiers,
    refuse_other_output_limits,
)
from govmiddleware.protocols.fields import (
    LARGEST_TOKEN_LIMIT,
    Elements,
    Object,
    Objects,
    read,
    read_count,
    read_name,
    refuse_fields,
)
from govmiddleware.protocols.large_json import plain_texts
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.prompt import read_history

LEAST_THINKING = 1024
"""The smallest `thinking.budget_tokens` that is accepted."""

REPEATED_OUTPUT = ("n", "best_of", "max_completion_tokens")
"""Fields of OpenAI's by which an upstream that translates may generate more than `max_tokens`. Refused."""


KNOWN_MODES = {**DEAR_MODES, "speed": ("standard", "fast")}
"""The fast mode has a price, and answers tell it."""

JUDGED = frozenset(
    {
        "model",
        "max_tokens",
        "messages",
        "system",
        "tools",
        "output_config",
        "stream",
        "thinking",
        "metadata",
        "mcp_servers",
        "container",
        "thread",
        "context_management",
        "service_tier",
        *KNOWN_MODES,
        *REPEATED_OUTPUT,
        *OTHER_MODELS,
    }
)
"""The fields that decide what a call costs or whom it counts for."""

SETTINGS = frozenset(
    {
        "anthropic_version", "betas", "billing_policy", "cache_control", "diagnostics", "fallback_credit_token",
        "stop_sequences", "temperature", "tool_choice", "top_k", "top_p", "user_profile_id", "workspace_id",
    }
)  # fmt: skip
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""

_KNOWN = JUDGED | SETTINGS


class AnthropicMessages(AnthropicRoute):
    """The WireProtocol `anthropic.messages`."""

    name = "anthropic.messages"
    history = "messages"
    preamble = ("system", "tools")

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/v1/messages")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = self.read_address(body, path, query)
        plain = plain_texts(body.raw("messages") or b"") if "messages" not in body.parts else None
        messages = read_history(body, "messages") if plain is None else []
        if messages is None:
            raise InvalidRequest("'messages' is missing.", param="messages")
        output_tokens = _read_output_limit(body)
        refuse_what_costs_more(body)
        prompt = MessagesPrompt(model, keeps_thinking=_edits(body, "clear_thinking"))
        prompt.add_field(body, "system", object, prompt.add_system)
        prompt.add_messages(messages, body.parts.get("messages", ()))
        prompt.add_plain(plain or [], MESSAGE_TOKENS)
        if prompt.add_field(body, "tools", Objects, prompt.add_tools):
            choice = read(body, "tool_choice", object)
            forced = isinstance(choice, dict) and choice.get("type") in ("any", "tool")
            prompt.add_tool_use(forced=forced)
        prompt.add_format(read(body, "output_config", Object) or {})
        thinking = read(body, "thinking", Object)
        thinks = thinking.get("type") != "disabled" if thinking else None
        prompt.add_thinking((thinking or {}).get("type"))
        prompt.unknown_parts += _unseen(body)
        prompt.add_unknown_fields(body, _KNOWN)
        return RequestInfo(
            model=model,
            stream=self.streams(body, path),
            output_tokens=output_tokens,
            overhead_tokens=prompt.overhead_tokens,
            texts=prompt.texts,
            known_tokens=prompt.known_tokens,
            known_bytes=prompt.known_bytes,
            new_parts=prompt.new_parts,
            unknown_parts=prompt.unknown_parts,
            user=read_user(body),
            hides_output=thinks,  # at best, a summary of it is shown
            reach=Reach(
                media=prompt.has_media,
                cache_1h=prompt.caches_for_an_hour
                or may_cache_for_an_hour(body, but=body.parts if plain is None else ("messages",)),
                service_tier="fast" if read_name(body, "speed") == "fast" else None,
                beside_tokens=prompt.searches,
            ),
        )

    def read_address(self, body: RequestBody, path: str, query: bytes) -> str:
        """The model. Raises InvalidRequest."""
        return read_model(body, path, query)

    def streams(self, body: RequestBody, path: str) -> bool:
        """Whether a stream is asked for. Raises InvalidRequest."""
        return read(body, "stream", bool) or False

    def bound_output(self, body: RequestBody, tokens: int) -> None:
        """Thinking has to stay below the limit, and below the least there is none."""
        body.set("max_tokens", tokens)
        thinking = read(body, "thinking", Object) or {}
        budget = thinking.get("budget_tokens")
        if isinstance(budget, int) and budget >= tokens:
            lower = {**thinking, "budget_tokens": tokens - 1}
            body.set("thinking", lower if tokens > LEAST_THINKING else {"type": "disabled"})

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader(may_be_cut=may_be_cut) if stream else JsonReader()


def _read_output_limit(body: RequestBody) -> int:
    """`max_tokens`, thinking included. Zero fills the cache and generates nothing."""
    refuse_other_output_limits(body)
    refuse_fields(body, REPEATED_OUTPUT, "it may lift the output limit. Use 'max_tokens'.")
    limit = read_count(body, "max_tokens", least=0, most=LARGEST_TOKEN_LIMIT)
    if limit is None:
        raise InvalidRequest("'max_tokens' is missing.", param="max_tokens")
    budget = (read(body, "thinking", Object) or {}).get("budget_tokens")
    if budget is not None and not (isinstance(budget, int) and budget < limit):
        # With interleaved thinking it may be larger, and then lifts the limit.
        problem = "'thinking.budget_tokens' must be a number below 'max_tokens'."
        raise InvalidRequest(problem, param="thinking.budget_tokens")
    return limit


def refuse_what_costs_more(body: RequestBody) -> None:
    """Refuse the fields by which a call costs more than its tokens show. Raises InvalidRequest."""
    refuse_dear_tiers(body)
    refuse_dear_modes(body, KNOWN_MODES)
    if _edits(body, "compact"):
        problem = "Compaction as an edit is not supported here: what it generates is not in 'max_tokens'."
        raise InvalidRequest(problem, param="context_management.edits")


def _edits(body: RequestBody, kind: str) -> bool:
    """Whether the context is edited in a way whose name begins so."""
    edits = (read(body, "context_management", Object) or {}).get("edits")
    return isinstance(edits, list) and any(
        isinstance(edit, dict) and str(edit.get("type")).startswith(kind) for edit in edits
    )


def _unseen(body: RequestBody) -> int:
    """Parts of the prompt that are not in the request: tools of MCP servers, skills, a thread's messages."""
    servers = read(body, "mcp_servers", Elements) or []
    container = read(body, "container", object)
    skills = container.get("skills") if isinstance(container, dict) else None
    thread = read(body, "thread", Object)
    return len(servers) + (len(skills) if isinstance(skills, list) else 0) + (thread is not None)
