"""Who may call LiteLLM: govmiddleware alone, with the key LITELLM_KEY, and models alone.

A master key would open LiteLLM's settings too, to every client behind the gateway. With a database a virtual key with
`allowed_routes: ["llm_api_routes"]` does the same.
"""

from __future__ import annotations

import os
from hmac import compare_digest

from fastapi import Request
from litellm.proxy._types import ProxyException, UserAPIKeyAuth


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:
    if not compare_digest(api_key.encode(), os.environ["LITELLM_KEY"].encode()):
        raise ProxyException("This key is not known here.", type="auth_error", param="api_key", code=401)
    return UserAPIKeyAuth(api_key=api_key, key_alias="govmiddleware", allowed_routes=["llm_api_routes"])
