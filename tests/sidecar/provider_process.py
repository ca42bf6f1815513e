"""A scripted provider in a process of its own, with books of its own.

    python provider_process.py ANSWERS ONE_ERROR_IN INTERVAL

prints its URL; then, for each line on stdin, what it has answered so far, as JSON. It ends with stdin.
Every answer says another usage, so that no mistake cancels another. Between the chunks of streams are INTERVAL seconds.
"""

from __future__ import annotations

import json
import sys

from govmiddleware.testing import Script, ScriptedProvider, serve_in_thread


def main(answers: int, one_error_in: int, interval: float) -> None:
    scripts = [
        Script(status=500)
        if (number + 1) % one_error_in == 0
        else Script(
            usage={"prompt_tokens": 1 + number % 9, "completion_tokens": 1 + number % 31}, interval=interval
        )
        for number in range(answers)
    ]
    provider = ScriptedProvider()
    for script in scripts:
        provider.next(script)
    with serve_in_thread(provider) as server:
        print(server.url, flush=True)
        for _ in sys.stdin:
            usages = [script.usage for script in scripts[: len(provider.exchanges)] if script.usage]
            account = {
                "requests": len(provider.exchanges),
                "finished": sum(exchange.finished for exchange in provider.exchanges),
                "errors": len(provider.exchanges) - len(usages),
                "input_tokens": sum(usage["prompt_tokens"] for usage in usages),
                "output_tokens": sum(usage["completion_tokens"] for usage in usages),
            }
            print(json.dumps(account), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
