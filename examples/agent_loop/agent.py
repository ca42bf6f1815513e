"""An agent on an Ollama's model, with tools, under a budget that it knows how to end well.

pip install 'govmiddleware[all]' ollama
ollama pull llama3.2 && ollama serve &
python agent.py "Which of our cities is warmest, and by how much?"
"""

import asyncio
import sys

import ollama

from govmiddleware import Governance, Principal, Refusal

MODEL = "llama3.2"
TEMPERATURES = {"Berlin": 12, "Cairo": 31, "Oslo": 4}
me = Principal(workspace="default", api_token="agents", agent="weather")


def list_cities() -> str:
    """The cities that we know of."""
    return ", ".join(TEMPERATURES)


def get_temperature(city: str) -> str:
    """The temperature in a city, in degrees Celsius."""
    return str(TEMPERATURES.get(city, "unknown"))


TOOLS = {tool.__name__: tool for tool in (list_cities, get_temperature)}


async def run(governance: Governance, model: ollama.AsyncClient, question: str) -> str:
    """Until it has answered, or has had 5,000 tokens or a minute: then with what it knows by then."""
    budget = governance.budget("weather", max_tokens=5_000, max_wall_clock=60)
    await budget.reset()  # of the run before
    messages = [{"role": "user", "content": question}]
    while step := await budget.allows_step():
        if step.warnings:  # from 80 % of a cap on
            messages.append({"role": "system", "content": "Answer now, with what you know."})
        tools = [] if step.warnings else list(TOOLS.values())
        # Held on every limit of govmiddleware.toml before it is made, and settled after.
        async with governance.call(MODEL, messages=messages, max_output_tokens=400, principal=me) as call:
            options = {"num_predict": call.max_output_tokens}
            answer = await model.chat(MODEL, messages, tools=tools, options=options)
            used = {"input_tokens": answer.prompt_eval_count or 0, "output_tokens": answer.eval_count or 0}
            call.usage(**used)
        await budget.consume(model=MODEL, **used)
        messages.append(answer.message.model_dump(exclude_none=True))
        if not answer.message.tool_calls:
            return answer.message.content or ""
        for wanted in answer.message.tool_calls:
            result = TOOLS[wanted.function.name](**wanted.function.arguments)
            messages.append({"role": "tool", "content": result})
    return f"I was stopped by {step.reason}, and know this: {messages[-1]['content']}"


async def main(question: str) -> None:
    model = ollama.AsyncClient()
    async with Governance.from_settings("govmiddleware.toml") as governance:
        try:
            print(await run(governance, model, question))
        except Refusal as refusal:  # of a limit that others share
            print(f"Not today: {refusal}")
        finally:
            await model.close()


asyncio.run(main(" ".join(sys.argv[1:])))
