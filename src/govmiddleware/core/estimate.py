"""From counted texts to what a prompt will probably take, and to what it will hardly exceed.

Tokens are counted with OpenAI's vocabularies whoever's model it is. What other makers' tokenizers and
hidden templates add is data, in `FAMILIES` (2026-11). docs/estimation.md says how close that comes, and
tools/measure_estimates.py measures it.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from govmiddleware.core.ports import RequestInfo
from govmiddleware.core.usage import Usage


class Family(msgspec.Struct, frozen=True):
    """Models that read a prompt alike.

    Attributes:
        pattern: of their names, lower case, found anywhere in it.
        template: tokens that every chat prompt has beside its messages.
        tools: further tokens as soon as there are tool definitions.
        forced_tools: the same where the request makes the model call one; None for as many.
        calls: tokens that a call of a tool and its result have beside their texts.
        thinking: further tokens where the request asks for thinking.
        likely: what their tokenizer takes of common texts, in percent of OpenAI's.
        percent: the most that it takes, in percent of OpenAI's.
        margin: tokens added to every bound.
        hides_reasoning: whether they may generate, and bill, output that their answers do not show.
        responses_template, responses_tools: the same as `template` and `tools` in OpenAI's responses API, where that
            adds something else.
    """

    pattern: str
    template: int
    tools: int
    percent: int
    margin: int
    calls: int = 12
    thinking: int = 0
    likely: int = 100
    hides_reasoning: bool = False
    forced_tools: int | None = None
    responses_template: int | None = None
    responses_tools: int | None = None

    def tools_tokens(self, *, forced: bool) -> int:
        """What tool definitions add beside themselves."""
        return self.forced_tools if forced and self.forced_tools is not None else self.tools


def _claude(pattern: str, tools: int, forced_tools: int, tokenizer: tuple[int, int]) -> Family:
    likely, percent = tokenizer
    return Family(
        pattern,
        template=0,
        tools=tools,
        forced_tools=forced_tools,
        calls=60,
        thinking=28,
        likely=likely,
        percent=percent,
        margin=48,
        hides_reasoning=True,
    )


def _named(kinds: str, version: str) -> str:
    """Claudes of a version, which their names give behind the kind or before it."""
    number = rf"(?:{version})(?![.-]?\d(?!\d))"
    return rf"claude-(?:(?:{kinds})-{number}|{number}-(?:{kinds}))"


_UNTIL_4_6, _SINCE_4_7 = (110, 160), (140, 170)
"""Claude's two tokenizers: the second takes up to 35 % more than the first
(platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-7)."""

CLAUDES = (
    _claude(_named("opus", "5"), 286, 406, _SINCE_4_7),
    _claude(_named("opus", "4[.-]8"), 290, 410, _SINCE_4_7),
    _claude(_named("opus", "4[.-]7"), 675, 804, _SINCE_4_7),
    _claude(_named("opus|sonnet", "4[.-]6"), 497, 589, _UNTIL_4_6),
    _claude(_named("opus|sonnet|haiku", "4[.-]5"), 496, 588, _UNTIL_4_6),
    _claude(_named("opus|sonnet", "4(?:[.-][01])?"), 313, 315, _UNTIL_4_6),
    _claude(_named("sonnet", "3[.-][57]"), 346, 313, _UNTIL_4_6),
    _claude(_named("haiku", "3(?:[.-]5)?"), 264, 355, _UNTIL_4_6),
    _claude(_named("opus", "3"), 530, 281, _UNTIL_4_6),
    _claude(_named("sonnet", "3"), 159, 235, _UNTIL_4_6),
    _claude("claude", 354, 474, _SINCE_4_7),
)
"""What tools add: platform.claude.com/docs/en/agents-and-tools/tool-use/overview, as of 2026-09; the third generation's
as of 2025. Sonnet 5's figures stand for all that are not listed."""

FAMILIES = (
    Family(r"gpt-oss", template=66, tools=100, percent=110, margin=24),
    Family(
        r"gpt-[34]|chatgpt|embedding-(?:3|ada)",
        template=1,
        tools=16,
        percent=104,
        margin=24,
        responses_tools=9,
    ),
    Family(
        r"gpt-\d|(?:^|[/:])o\d",
        template=0,
        tools=96,
        percent=104,
        margin=24,
        hides_reasoning=True,
        responses_tools=15,
    ),
    *CLAUDES,
    Family(r"deepseek", template=0, tools=230, percent=140, margin=48, calls=30, responses_template=76),
    Family(r"llama-?4", template=2, tools=657, percent=120, margin=24),
    Family(r"llama", template=32, tools=150, percent=120, margin=24),
    Family(r"gemini|gemma", template=0, tools=16, percent=140, margin=48, hides_reasoning=True),
    Family(r"qwen", template=6, tools=120, percent=140, margin=32),
    Family(
        r"mistral|ministral|magistral|mixtral|codestral|pixtral|devstral",
        template=2,
        tools=10,
        percent=150,
        margin=24,
    ),
    Family(r"(?:^|[./])nova-2", template=0, tools=860, percent=140, margin=48, calls=28),
    Family(r"(?:^|[./])nova-", template=0, tools=363, percent=140, margin=48, calls=28),
    Family(r"grok", template=40, tools=300, percent=160, margin=200, hides_reasoning=True),
    Family(r"glm", template=0, tools=120, percent=140, margin=32),
)
OTHERS = Family("", template=40, tools=300, percent=160, margin=200)
"""Nothing is known of these: hidden templates of 35 to 690 tokens were seen."""


@lru_cache(maxsize=1024)
def family_of(model: str) -> Family:
    """The family of a model, by its name as clients write it."""
    name = model.lower()
    return next((family for family in FAMILIES if re.search(family.pattern, name)), OTHERS)


def input_estimate(info: RequestInfo, counted: int, unknown_size: int) -> int:
    """The tokens that the prompt will probably take.

    Args:
        counted: `count_tokens` of the request's texts.
        unknown_size: tokens allowed for each part whose size the request does not show.
    """
    likely = counted * family_of(info.model).likely // 100
    return info.overhead_tokens + info.input_tokens + likely + info.unknown_parts * unknown_size


def without_tokens(info: RequestInfo) -> RequestInfo:
    """Of a model that is not billed in tokens: it uses none."""
    expected = info.expected
    beside = Usage(
        audio_ms=expected.audio_ms, input_characters=expected.input_characters, images=expected.images
    )
    return replace(
        info,
        texts=(),
        known_tokens=0,
        new_parts=(),
        input_tokens=0,
        overhead_tokens=0,
        unknown_parts=0,
        generates=False,
        expected=beside,
    )


def input_bound(estimate: int, model: str) -> int:
    """The tokens that a prompt of this estimate will hardly exceed: what is reserved for it."""
    family = family_of(model)
    return -(-estimate * family.percent // family.likely) + family.margin
