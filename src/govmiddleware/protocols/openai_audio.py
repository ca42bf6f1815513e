"""OpenAI's audio: what is heard, and what is said.

POST …/audio/transcriptions, …/audio/translations, …/audio/speech. Source: openai-python 3.54,
`types/audio/transcription_create_params.py`, `transcription.py`, `speech_create_params.py`.
"""

from __future__ import annotations

from math import ceil

from govmiddleware.core.body import RequestBody
from govmiddleware.core.media import HEAD
from govmiddleware.core.ports import RequestInfo, UsageReader
from govmiddleware.core.refusals import InvalidRequest
from govmiddleware.core.sound import seconds_at_most
from govmiddleware.core.usage import Reach, Usage
from govmiddleware.protocols.fields import LONGEST_CALLER, read, read_name, refuse_fields
from govmiddleware.protocols.models import OTHER_MODELS, read_model
from govmiddleware.protocols.openai_audio_reader import (
    SpeechReader,
    SpeechStreamReader,
    TranscriptReader,
    TranscriptStreamReader,
)
from govmiddleware.protocols.openai_base import OpenAIRoute
from govmiddleware.protocols.prompt import Prompt

HEARD_TOKENS = 10
SAID_TOKENS = 20
"""A second. Source: developers.openai.com/api/docs/guides/realtime-costs: a token for 100 ms, and for 50 ms."""

WRITTEN_TOKENS = 8
LEAST_WRITTEN = 2_000
"""Output tokens of a transcript: a second, of fast speech; and at least, which is the most that GPT-4o Transcribe
writes (developers.openai.com/api/docs/models/gpt-4o-transcribe, November 2026)."""

SPOKEN_BYTES = 14
SLOWEST_BYTES = 4
"""Of text in UTF-8, that are said in a second: of prose in most languages; and of digits, which are said slowly."""

SETTINGS_HEARD = frozenset(
    {
        "chunking_strategy", "include[]", "known_speaker_names[]", "known_speaker_references[]", "language",
        "response_format", "temperature", "timestamp_granularities[]",
    }
)  # fmt: skip
SETTINGS_SAID = frozenset({"response_format", "voice"})
"""Fields that steer and are not said. What is neither here nor judged is counted as if it were prompt."""

ELSEWHERE = ("url", "file_url", "file_id")
"""Fields by which Groq and Mistral take a sound that is not in the request."""

JUDGED_HEARD = frozenset({"model", "file", "prompt", "stream", "user", *ELSEWHERE, *OTHER_MODELS})
JUDGED_SAID = frozenset({"model", "input", "instructions", "speed", "stream_format", "user", *OTHER_MODELS})
"""The fields that decide what a call costs or whom it counts for."""


class OpenAITranscriptions(OpenAIRoute):
    """The WireProtocol `openai.audio.transcriptions`, or of the same name for translations."""

    takes_forms = True

    def __init__(self, kind: str) -> None:
        self.name = f"openai.audio.{kind}"
        self._path = f"/audio/{kind}"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith(self._path)

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED_HEARD)
        refuse_fields(body, ELSEWHERE, "how long the sound is would not show. Send it in 'file'.")
        if [file.name for file in body.files] != ["file"]:
            raise InvalidRequest("Send one file, in the field 'file' of a form.", param="file")
        [file] = body.files
        seconds = seconds_at_most(file.read(HEAD), file.size)
        prompt = Prompt()
        prompt.add(read(body, "prompt", str))
        prompt.add_unknown_fields(body, JUDGED_HEARD | SETTINGS_HEARD)
        milliseconds = ceil(seconds * 1000)
        return RequestInfo(
            model=read_model(body, path, query),
            stream=read(body, "stream", bool) or False,
            output_tokens=max(LEAST_WRITTEN, ceil(seconds * WRITTEN_TOKENS)),
            overhead_tokens=ceil(seconds * HEARD_TOKENS),
            texts=prompt.texts,
            user=read_name(body, "user", LONGEST_CALLER),
            hides_output=True,
            can_be_limited=False,
            reach=Reach(cache_1h=False, beside_tokens=Usage(audio_ms=milliseconds)),
            expected=Usage(audio_ms=milliseconds),
        )

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return TranscriptStreamReader() if stream else TranscriptReader()


class OpenAISpeech(OpenAIRoute):
    """The WireProtocol `openai.audio.speech`: the answer is a sound, or a stream of events with one in it."""

    name = "openai.audio.speech"

    def recognises(self, method: str, path: str) -> bool:
        return method == "POST" and path.endswith("/audio/speech")

    def read_request(self, body: RequestBody, *, path: str = "", query: bytes = b"") -> RequestInfo:
        body.refuse_look_alikes(JUDGED_SAID)
        text = read(body, "input", str)
        if text is None:
            raise InvalidRequest("'input' is missing.", param="input")
        prompt = Prompt()
        prompt.add([text, read(body, "instructions", str)])
        prompt.add_unknown_fields(body, JUDGED_SAID | SETTINGS_SAID)
        speed = read(body, "speed", float) or 1.0
        if not 0.25 <= speed <= 4:
            raise InvalidRequest("'speed' must be between 0.25 and 4.", param="speed")
        size = len(text.encode())
        characters = Usage(input_characters=len(text))
        said = ceil(size * SAID_TOKENS / SPOKEN_BYTES)
        return RequestInfo(
            model=read_model(body, path, query),
            stream=read_name(body, "stream_format") == "sse",
            output_tokens=SAID_TOKENS + ceil(size * SAID_TOKENS / SLOWEST_BYTES / min(1.0, speed)),
            texts=prompt.texts,
            user=read_name(body, "user", LONGEST_CALLER),
            hides_output=True,
            can_be_limited=False,
            reach=Reach(media=False, cache_1h=False, beside_tokens=characters),
            expected=Usage(output_tokens=said, output_audio_tokens=said, input_characters=len(text)),
        )

    def usage_reader(
        self, *, stream: bool, usage_was_injected: bool, may_be_cut: bool = False
    ) -> UsageReader:
        return SpeechStreamReader() if stream else SpeechReader()
