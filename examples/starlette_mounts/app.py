"""A Starlette app of mounted apps, of which one is governed.

    pip install 'govmiddleware[all]'
    TOKEN=$(govmiddleware token create laptop)
    uvicorn app:app --port 8000 &
    curl localhost:8000/models/v1/chat/completions -H "authorization: Bearer $TOKEN" \
      -d '{"model": "house-model", "messages": [{"role": "user", "content": "Hello"}]}'
    curl localhost:8000/playground/v1/chat/completions -d '{"messages": [{"content": "Hello"}]}'
    curl localhost:8000/
"""

from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from govmiddleware import Governance, govern

governance = Governance.from_settings("govmiddleware.toml")


async def chat(request: Request) -> JSONResponse:
    """Stands for a model of your own in this process."""
    asked = (await request.json())["messages"][-1]["content"]
    message = {"role": "assistant", "content": f"You said: {asked}"}
    usage = {"prompt_tokens": len(asked.split()), "completion_tokens": 2 + len(asked.split())}
    return JSONResponse({"choices": [{"message": message}], "usage": usage})


async def home(request: Request) -> PlainTextResponse:
    return PlainTextResponse("Nobody governs this page.")


@asynccontextmanager
async def lifespan(app: Starlette):
    async with governance:  # mounted apps get no lifespan of their own
        yield


models = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])

app = Starlette(
    routes=[
        Mount("/models", govern(models, governance)),
        Mount("/playground", models),  # the same app, open to everybody
        Route("/", home),
    ],
    lifespan=lifespan,
)
