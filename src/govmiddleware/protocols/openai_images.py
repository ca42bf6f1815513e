"""OpenAI's images. POST …/images/generations, …/images/edits and …/images/variations, as JSON or as a form.

Source: openai-python 3.54, `types/image_generate_params.py`, `image_edit_params.py`, `images_response.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from govmiddleware.core.body import RequestBody
from govmiddleware.core.media import HEAD, head_of_data_url
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.fields import LONGEST_CALLER, read, read_count, read_name
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.openai_image_tokens import PARTIAL_TOKENS, drawn_tokens, seen_tokens
from govmiddleware.protocols.openai_images_reader import JsonReader, StreamReader
from govmiddleware.protocols.prompt import Prompt

MOST_IMAGES = 128
MOST_PARTIAL_IMAGES = 3
MOST_FRAMES = 16
DEFAULT_FRAMES = 9

GIVEN = frozenset({"image", "image[]", "images", "mask", "markup"})
"""The fields that have pictures in them."""

JUDGED = GIVEN | {
    "model",
    "prompt",
    "n",
    "size",
    "quality",
    "stream",
    "partial_images",
    "output_format",
    "frame_count",
    "input_fidelity",
    "svg",
    "user",
    "safety_identifier",
    *OTHER_MODELS,
}
"""The fields that decide what a call costs or whom it counts for."""

SETTINGS = frozenset(
    {
        "background", "complexity", "frame_duration_ms", "moderation", "output_compression", "response_format",
        "style",
    }
)  # fmt: skip
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""


class OpenAIImages(OpenAIRoute):
    """The WireProtocol `openai.images.generations`, or of the same name for edits or variations."""

    takes_forms = True

    def __init__(self, kind: str) -> None:
        self.name = f"openai.images.{kind}"
        self._path = f"/images/{kind}"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith(self._path)

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED)
        model = read_model(body, path, query)
        file_format = read_name(body, "output_format")
        if file_format == "svg" or body.raw("svg") is not None:
            problem = "SVG is not supported here: it is written by another model, which would go unpriced."
            raise InvalidRequest(problem, param="output_format")
        images = read_count(body, "n", least=1, most=MOST_IMAGES) or 1
        frames = read_count(body, "frame_count", least=1, most=MOST_FRAMES)
        if frames is None:
            frames = DEFAULT_FRAMES if file_format == "gif" else 1
        partial = read_count(body, "partial_images", least=0, most=MOST_PARTIAL_IMAGES) or 0
        drawn = drawn_tokens(model, read_name(body, "quality"), read_name(body, "size"))
        each = drawn * frames + partial * PARTIAL_TOKENS
        prompt = Prompt()
        prompt.add(_text(body, self._path))
        prompt.add_unknown_fields(body, JUDGED | SETTINGS)
        fidelity = read_name(body, "input_fidelity")
        for head in _heads(body):
            prompt.add_file(seen_tokens(model, head, fidelity))
        return RequestInfo(
            model=model,
            stream=read(body, "stream", bool) or False,
            output_tokens=each,
            choices=images,
            overhead_tokens=prompt.overhead_tokens,
            texts=prompt.texts,
            unknown_parts=prompt.unknown_parts,
            user=read_name(body, "safety_identifier", LONGEST_CALLER)
            or read_name(body, "user", LONGEST_CALLER),
            hides_output=True,
            can_be_limited=False,
            reach=Reach(cache_1h=False, beside_tokens=Usage(images=images)),
            expected=Usage(output_tokens=each * images, output_image_tokens=each * images, images=images),
        )

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return StreamReader() if stream else JsonReader()


def _text(body: RequestBody, path: str) -> str | None:
    """What is to be drawn, which a variation alone does not say. Raises InvalidRequest."""
    text = read(body, "prompt", str)
    if text is None and not path.endswith("variations"):
        raise InvalidRequest("'prompt' is missing.", param="prompt")
    return text


def _heads(body: RequestBody) -> Iterator[bytes]:
    """Of each picture, the beginning of its file; empty where it is elsewhere."""
    for file in body.files:
        if file.name not in GIVEN:
            raise InvalidRequest(f"{file.name!r} must not be a file here.", param=file.name)
        yield file.read(HEAD)
    for name in sorted(GIVEN):
        named = read(body, name, object)
        for each in named if isinstance(named, list) else [named] if named else []:
            url = each.get("image_url") if isinstance(each, dict) else each
            yield head_of_data_url(url) if isinstance(url, str) else b""
