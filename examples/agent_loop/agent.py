"""An agent on an Ollama's model, with tools, under a budget that it knows how to end well.

pip install 'govmiddleware[all]' ollama
ollama pull llama3.2 && ollama serve &
python agent.py "Which of our cities is warmest, and by how much?"
"""

import asyncio
import sys

import ollama

from govmiddleware import Attribution, Governance, Principal, Refusal

MODEL = "llama3.2"
TEMPERATURES = {"Berlin": 12, "Cairo": 31, "Oslo": 4}
me = Principal(workspace="default", api_token="agent")
this_run = Attribution(agent="weather")


def list_cities() -> str:
    """The cities that we know of."""
    return ", ".join(TEMPERATURES)


def get_temperature(city: str) -> str:
    """The temperature in a city, in degrees Celsius."""
    return str(TEMPERATURES.get(city, "unknown"))


TOOLS = {tool.__name__: tool for tool in (list_cities, get_temperature)}


async def say(
    governance: Governance, model: ollama.AsyncClient, messages: list, tools: list
) -> ollama.ChatResponse:
    """One call: held on every limit of govmiddleware.toml before it is made, settled after."""
    async with governance.call(
        MODEL, messages=messages, max_output_tokens=400, principal=me, attribution=this_run
    ) as call:
        options = {"num_predict": call.max_output_tokens}
        answer = await model.chat(MODEL, messages, tools=tools, options=options)
        call.usage(input_tokens=answer.prompt_eval_count or 0, output_tokens=answer.eval_count or 0)
        return answer


async def run(governance: Governance, model: ollama.AsyncClient, question: str) -> str:
    """Until it has answered, or its run has had 5,000 tokens or a minute: then with what it knows by then."""
    budget = governance.budget("weather", max_tokens=5_000, max_wall_clock=60)
    await budget.reset()  # this run's alone
    messages = [{"role": "user", "content": question}]
    while step := await budget.allows_step():
        if step.warnings:  # from 80 % of a cap on
            messages.append({"role": "system", "content": "Answer now, with what you know."})
        answer = await say(governance, model, messages, [] if step.warnings else list(TOOLS.values()))
        used = {"input_tokens": answer.prompt_eval_count or 0, "output_tokens": answer.eval_count or 0}
        await budget.consume(model=MODEL, **used)
        messages.append(answer.message.model_dump(exclude_none=True))
        if not answer.message.tool_calls:
            return answer.message.content or ""
        for wanted in answer.message.tool_calls:
            tool = TOOLS[wanted.function.name]
            messages.append({"role": "tool", "content": tool(**wanted.function.arguments)})
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


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:])))
