"""LiteLLM's proxy and its governance in one process.

    pip install 'govmiddleware[all]' 'litellm[proxy]'
    export CONFIG_FILE_PATH=litellm.yaml LITELLM_MASTER_KEY=sk-$(openssl rand -hex 32)
    TOKEN=$(govmiddleware token create laptop)
    uvicorn app:app --port 4000 &
    curl localhost:4000/v1/chat/completions -H "authorization: Bearer $TOKEN" -H "x-gov-user: ann" \
      -d '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}'
    govmiddleware usage --by user

LiteLLM routes, translates and falls back as ever. Who calls is known before it is asked: it believes that, and answers
nobody else. So what is not governed, such as its management of keys, is closed, also to its master key.
"""

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.proxy_server import app as litellm

from govmiddleware import Governance, current_call, govern

ROUTES = {"/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/responses", "/v1/models"}
"""What it answers. It has more, of which some take the model from the path: priced is the one in the body."""


async def who_calls(request: Request, api_key: str) -> UserAPIKeyAuth:
    """LiteLLM's `custom_auth`: the caller of the governed request that runs."""
    call = current_call.get()
    if call is None or call.principal is None or call.path not in ROUTES:
        raise HTTPException(401, "govmiddleware does not govern this route")
    return UserAPIKeyAuth(key_alias=call.principal.api_token, end_user_id=call.attribution.user)


app = govern(litellm, Governance.from_settings("govmiddleware.toml"), paths=["/v1/models"])
