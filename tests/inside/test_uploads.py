"""Files that an app uploads with a governed client."""

from __future__ import annotations

import httpx
import openai
from tests.inside.books import read_books
from tests.inside.speaking import SCRIPT

LENGTHS = [{"model": "hears", "audio_minute_usd": 0.006}]


async def test_an_upload_arrives_whole_and_is_charged_by_its_length(
    governance_with, provider, provider_url
) -> None:
    governance = governance_with(prices=LENGTHS)
    sound = b"OggS" + bytes(119_996)  # as many bytes as a minute of quiet speech
    async with httpx.AsyncClient(transport=governance.transport(principal=SCRIPT)) as http:
        client = openai.AsyncOpenAI(base_url=f"{provider_url}/v1", api_key="sk-provider", http_client=http)
        heard = await client.audio.transcriptions.create(model="hears", file=("a.ogg", sound))
    assert heard.text == provider.script.text
    [exchange] = provider.exchanges
    assert sound in exchange.raw_body
    [record] = await read_books(governance)
    assert (record["protocol"], record["cost_usd"]) == ("openai.audio.transcriptions", "0.006000000")
