"""The objects in a converse request that bound the answer: `inferenceConfig`, and what goes to the model as it is."""

from __future__ import annotations

from typing import Any

from govmiddleware.core.body import RequestBody
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.protocols.anthropic_messages import (
    LEAST_THINKING,
    REPEATED_OUTPUT,
    refuse_what_costs_more,
)
from govmiddleware.protocols.bedrock_base import refuse_look_alikes
from govmiddleware.protocols.escapes import OTHER_OUTPUT_LIMITS
from govmiddleware.protocols.fields import (
    LARGEST_TOKEN_LIMIT,
    Elements,
    Object,
    read,
    read_count,
    refuse_fields,
)
from govmiddleware.protocols.object_field import ObjectField

OUTPUT_LIMIT = "inferenceConfig.maxTokens"

_LIMITS = ("max_tokens", *REPEATED_OUTPUT, *OTHER_OUTPUT_LIMITS)
_REASONING = ("reasoning_config", "reasoningConfig", "reasoning_effort")
"""Of models that do not show what they have reasoned, or not all of it."""

_JUDGED = frozenset(
    {*_LIMITS, *_REASONING, "thinking", "tools", "context_management", "service_tier", "speed"}
)


class InferenceConfig:
    """`inferenceConfig`, and `additionalModelRequestFields`, which the model gets in its maker's own form.

    Raises InvalidRequest where one is no object, and where the second could lift the limit that the first sets.
    """

    def __init__(self, body: RequestBody) -> None:
        self._config = ObjectField(body, "inferenceConfig")
        refuse_look_alikes(self._config.fields.names(), ["maxTokens"])
        _refuse_limits(self._config.fields, own="maxTokens")
        self._more = ObjectField(body, "additionalModelRequestFields")
        self._check_more()

    @property
    def output_tokens(self) -> int | None:
        """Reasoning included."""
        return read_count(self._config.fields, "maxTokens", least=1, most=LARGEST_TOKEN_LIMIT)

    @property
    def thinking(self) -> dict[str, Any]:
        """What Claude is told of thinking; empty where that is left to it."""
        return read(self._more.fields, "thinking", Object) or {}

    @property
    def hides_output(self) -> bool | None:
        """Whether what is generated is reasoning that is not shown; None leaves it to the model."""
        if any(self._more.fields.raw(name) for name in _REASONING):
            return True
        return self.thinking.get("type") != "disabled" if self.thinking else None

    @property
    def tools(self) -> list[Any]:
        """Tools in the form of the model's maker."""
        return read(self._more.fields, "tools", Elements) or []

    @property
    def others(self) -> list[bytes]:
        """What else the model gets, as JSON."""
        fields = self._more.fields
        return [fields.raw(name) or b"" for name in fields.names() if name not in _JUDGED]

    def bound_output(self, tokens: int) -> None:
        """Write an output limit. Thinking has to stay below it, and below the least there is none."""
        self._config.set("maxTokens", tokens)
        budget = self.thinking.get("budget_tokens")
        if isinstance(budget, int) and budget >= tokens:
            lower = {**self.thinking, "budget_tokens": tokens - 1}
            self._more.set("thinking", lower if tokens > LEAST_THINKING else {"type": "disabled"})

    def _check_more(self) -> None:
        fields = self._more.fields
        refuse_look_alikes(fields.names(), _JUDGED)
        refuse_what_costs_more(fields)
        _refuse_limits(fields)
        for raw in map(fields.raw, fields.names()):  # Nova's own request has an `inferenceConfig` too
            if raw is not None and raw.startswith(b"{"):
                _refuse_limits(RequestBody(raw))
        budget, limit = self.thinking.get("budget_tokens"), self.output_tokens
        if budget is not None and not (isinstance(budget, int) and (limit is None or budget < limit)):
            # With interleaved thinking it may be larger, and then lifts the limit.
            problem = f"'thinking.budget_tokens' must be a number below '{OUTPUT_LIMIT}'."
            raise InvalidRequest(problem, param="additionalModelRequestFields.thinking.budget_tokens")


def _refuse_limits(fields: RequestBody, own: str | None = None) -> None:
    others = [name for name in _LIMITS if name != own]
    refuse_fields(fields, others, f"it may lift the output limit. Use '{OUTPUT_LIMIT}'.")
