"""An application: the openai SDK, whose base URL is govmiddleware's. Tells what each call was answered.

    OPENAI_BASE_URL=http://127.0.0.1:8080/v1 APP_TOKEN=gov_... NIGHTLY_TOKEN=gov_... python client.py

Exit code 1 where an answer is another than it should be.
"""

from __future__ import annotations

import os
import sys

import openai
from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello, who are you?"}]
COLUMNS = "{:<15} {:<7} {:<18} {:<19} {:<10} {:<36} {}"

app = openai.OpenAI(api_key=os.environ["APP_TOKEN"], max_retries=0)
nightly = openai.OpenAI(api_key=os.environ["NIGHTLY_TOKEN"], max_retries=0)
is_as_it_should = True


def main() -> int:
    print(COLUMNS.format("API TOKEN", "USER", "MODEL", "SERVED BY", "ANSWER", "TEXT", "LEFT OF THE BUDGET"))
    for model in ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "house-model", "frail-model"):
        call("ok", app, user="ann", model=model)
    stream("bob", "gpt-4o-mini")
    for expected in ("ok", "ok", "ok", "rate_limit_exceeded"):  # 3/minute
        call(expected, nightly, user="reports", model="gpt-4o-mini")
    # A budget of 0.002 USD: what is left bounds the answer, and then there is too little left.
    while call(None, app, user="trial", model="gpt-4o") == "ok":
        pass
    call("insufficient_quota", app, user="trial", model="gpt-4o", tell=True)
    call("model_not_priced", app, user="ann", model="gpt-unheard-of", tell=True)
    stranger = openai.OpenAI(api_key="sk-somebody", max_retries=0)
    call("invalid_api_key", stranger, user="mallory", model="gpt-4o", tell=True)
    return 0 if is_as_it_should else 1


def call(expected: str | None, client: openai.OpenAI, *, user: str, model: str, tell: bool = False) -> str:
    """Returns `ok` or the code of the error.

    Args:
        tell: print the whole text of the error.
    """
    global is_as_it_should
    headers = {"x-litellm-end-user-id": user, "x-litellm-tags": "team=search"}
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=HELLO, max_tokens=100, extra_headers=headers
        )
        answer, code, told = raw.headers, "ok", raw.parse().choices[0].message.content or ""
    except openai.APIStatusError as error:
        answer, code, told = error.response.headers, str(error.code), error.message
    if expected not in (None, code):
        is_as_it_should = False
        code += f", not {expected}"
    served = answer.get("x-litellm-model-name", "-")
    left = answer.get("x-gov-budget-remaining-usd", "-")
    name = {app: "my-app", nightly: "nightly-report"}.get(client, "(unknown)")
    print(COLUMNS.format(name, user, model, served, code, "" if tell else told[:36], left))
    if tell:
        print(f"    {told}")
    return code


def stream(user: str, model: str) -> None:
    """A stream; what it used is metered though nobody asked for it."""
    headers = {"x-litellm-end-user-id": user}
    chunks = app.chat.completions.create(
        model=model, messages=HELLO, max_tokens=100, stream=True, extra_headers=headers
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    print(COLUMNS.format("my-app", user, model, "(a stream)", "ok", text[:36], "-"))


if __name__ == "__main__":
    sys.exit(main())
