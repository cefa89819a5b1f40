"""openai-agents over chat and over the Responses API: a run and a stream that use a function."""

from __future__ import annotations

import agents as sdk
import pytest
from openai import AsyncOpenAI

from tests.clients.gateway import PLAIN, Purse, Tokens, messages_from
from tests.fakes.upstream import FakeUpstream

pytestmark = pytest.mark.anyio
MODELS = {"chat": sdk.OpenAIChatCompletionsModel, "responses": sdk.OpenAIResponsesModel}
PROMPT = 'call: fare_of {"line": 7}\nsay: It is four.\ntokens: 1000 200 50 20'


@sdk.function_tool
def fare_of(line: int) -> str:
    """What a ride on a line costs."""
    return f"line {line}: 4"


def _agent(client: AsyncOpenAI, dialect: str) -> sdk.Agent[None]:
    model = MODELS[dialect](model=PLAIN, openai_client=client)
    return sdk.Agent(name="Driver", instructions="Be brief.", model=model, tools=[fare_of])


def _check(result: sdk.RunResult | sdk.RunResultStreaming, purse: Purse, dialect: str) -> None:
    assert result.final_output == "It is four."
    used = result.context_wrapper.usage
    cached = used.input_tokens_details.cached_tokens
    assert used.requests == len(purse.receipts()) == 2
    assert Tokens(used.input_tokens, cached, used.output_tokens) == purse.charged()
    assert {receipt["dialect"] for receipt in purse.receipts()} == {dialect}


@pytest.mark.parametrize("dialect", MODELS)
async def test_a_run_with_a_function(
    purse: Purse, fake_upstream: FakeUpstream, dialect: str
) -> None:
    """The function is called, its result reaches the upstream, the usage is the receipts'."""
    async with AsyncOpenAI(base_url=purse.gateway.base_url, api_key=purse.key) as client:
        config = sdk.RunConfig(tracing_disabled=True)
        result = await sdk.Runner.run(_agent(client, dialect), PROMPT, run_config=config)
    assert messages_from(fake_upstream.last, "tool") == ["line 7: 4"]
    _check(result, purse, dialect)


@pytest.mark.parametrize("dialect", MODELS)
async def test_a_streamed_run_with_a_function(purse: Purse, dialect: str) -> None:
    """The pieces of the text come one by one, and the end is that of a run without a stream."""
    async with AsyncOpenAI(base_url=purse.gateway.base_url, api_key=purse.key) as client:
        config = sdk.RunConfig(tracing_disabled=True)
        settings = sdk.ModelSettings(include_usage=True)
        agent = _agent(client, dialect).clone(model_settings=settings)
        result = sdk.Runner.run_streamed(agent, PROMPT, run_config=config)
        events = [event async for event in result.stream_events()]
    raw = [event.data for event in events if event.type == "raw_response_event"]
    deltas = [data.delta for data in raw if data.type == "response.output_text.delta"]
    assert deltas == ["It ", "is ", "four."]
    _check(result, purse, dialect)
