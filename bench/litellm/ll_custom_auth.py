"""Parametric keys: sk-NAME[:rpm=30][:tpm=1000][:bud=0.01][:soft=0.008][:mpr=5]. Anything not starting with sk- is refused."""

from litellm.proxy._types import UserAPIKeyAuth


async def user_api_key_auth(request, api_key: str) -> UserAPIKeyAuth:
    if not api_key.startswith("sk-"):
        raise Exception("bad key")
    kw = {}
    for part in api_key.split(":")[1:]:
        k, v = part.split("=")
        name = {
            "rpm": "rpm_limit",
            "tpm": "tpm_limit",
            "bud": "max_budget",
            "soft": "soft_budget",
            "mpr": "max_parallel_requests",
        }[k]
        kw[name] = float(v) if k in ("bud", "soft") else int(v)
    return UserAPIKeyAuth(api_key=api_key, key_alias=api_key.split(":")[0], **kw)
