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
COLUMNS = "{:<15} {:<8} {:<18} {:<28} {:<20} {}"


def main() -> int:
    app = openai.OpenAI(api_key=os.environ["APP_TOKEN"], max_retries=0)
    nightly = openai.OpenAI(api_key=os.environ["NIGHTLY_TOKEN"], max_retries=0)
    stranger = openai.OpenAI(api_key="sk-somebody", max_retries=0)

    print(COLUMNS.format("API TOKEN", "USER", "MODEL", "SERVED BY", "ANSWER", "LEFT OF THE BUDGET, USD"))
    results = [
        call("ok", app, "my-app", "ann", "gpt-4o-mini"),
        call("ok", app, "my-app", "ann", "gpt-4o"),
        call("ok", app, "my-app", "ann", "claude-sonnet-4-5"),
        call("ok", app, "my-app", "ann", "house-model"),
        call("ok", app, "my-app", "ann", "frail-model"),
        call("ok", app, "my-app", "bob", "gpt-4o-mini", stream=True),
        # Three a minute, and no fourth.
        *(call("ok", nightly, "nightly-report", "reports", "gpt-4o-mini") for _ in range(3)),
        call("rate_limit_exceeded", nightly, "nightly-report", "reports", "gpt-4o-mini"),
        # A budget of 0.002 USD: six such answers leave too little for a seventh.
        *(call("ok", app, "my-app", "trial", "gpt-4o") for _ in range(6)),
        call("insufficient_quota", app, "my-app", "trial", "gpt-4o"),
        call("model_not_priced", app, "my-app", "ann", "gpt-unheard-of"),
        call("invalid_api_key", stranger, "(unknown)", "mallory", "gpt-4o"),
    ]
    return 0 if all(results) else 1


def call(
    expected: str, client: openai.OpenAI, token: str, user: str, model: str, *, stream: bool = False
) -> bool:
    """Whether the answer is the one that is expected: `ok`, or the code of an error, whose text is printed."""
    headers = {"x-litellm-end-user-id": user, "x-litellm-tags": "team=search"}
    text = None
    try:
        raw = client.chat.completions.with_raw_response.create(
            model=model, messages=HELLO, max_tokens=100, stream=stream, extra_headers=headers
        )
        answer, code = raw.headers, "ok"
        if stream:
            for _ in raw.parse():  # to its end: until then it is not settled
                pass
    except openai.APIStatusError as error:
        answer, code = error.response.headers, str(error.code)
        text = error.body["message"] if isinstance(error.body, dict) else error.message
    served = answer.get("x-litellm-model-name", "-")
    left = answer.get("x-gov-budget-remaining-usd", "-")
    print(COLUMNS.format(token, user, model, served, code, left))
    if text:
        print(f"    {text}")
    if code != expected:
        print(f"    It should have been answered with {expected}.")
    return code == expected


if __name__ == "__main__":
    sys.exit(main())
