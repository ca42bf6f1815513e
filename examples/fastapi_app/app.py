"""A FastAPI app, one endpoint of which calls a model for its callers.

    pip install 'govmiddleware[all]' fastapi openai
    export OPENAI_API_KEY=sk-…
    TOKEN=$(govmiddleware token create laptop)
    uvicorn app:app --port 8000 &
    curl localhost:8000/summaries -H "authorization: Bearer $TOKEN" -H "x-gov-user: ann" \
      -H "content-type: application/json" -d '{"text": "It was a dark and stormy night."}'
    curl localhost:8000/healthz
    govmiddleware usage --by user
"""

from contextlib import asynccontextmanager

import openai
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel

from govmiddleware import Governance, GovernanceMiddleware

governance = Governance.from_settings("govmiddleware.toml")
client = AsyncOpenAI(http_client=DefaultAsyncHttpxClient(transport=governance.transport()))


class Text(BaseModel):
    text: str


class Summary(BaseModel):
    summary: str | None


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with governance, client:
        yield


app = FastAPI(lifespan=lifespan)
app.add_middleware(GovernanceMiddleware, governance=governance, paths=["/summaries"])


@app.post("/summaries")
async def summarise(given: Text) -> Summary:
    """For callers with an API token; what it calls counts for them."""
    message = {"role": "user", "content": f"Summarise in one sentence:\n{given.text}"}
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=[message], max_tokens=100)
    return Summary(summary=answer.choices[0].message.content)


@app.get("/healthz")
async def healthz() -> dict[str, bool]:
    """As it was before: for everybody."""
    return {"ok": True}


@app.exception_handler(openai.APIStatusError)
async def as_the_model_said(request: Request, error: openai.APIStatusError) -> JSONResponse:
    """Callers see why they are refused: the limit, and what is left of it."""
    return JSONResponse({"error": error.body}, error.status_code)
