"""What each vendor needs changed, and what it is left alone with."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from farebox.core.channel import ChannelOptions
from farebox.errors import BadRequest
from farebox.vendors import registry
from tests.vendors.contract import CAP, call_of, channel_of

USER = {"role": "user", "content": "hi"}
CALLS = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
BY_SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
CHAT_ONLY = ("deepseek", "zhipu", "zai", "mimo", "openai_compatible", "local")
GLM = ("zhipu", "zai")
THINKERS = ("deepseek", "mimo")


def prepare(
    name: str, model: str = "up-1", **fields: Any
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The decoded body and the adjustments; model and cap are taken out of the body."""
    vendor = registry.find(name)
    call = call_of(msgspec.json.encode({"messages": [USER], **fields}))
    result = vendor.prepare(channel_of(vendor), model, call, CAP, "hop", "alice")
    body = msgspec.json.decode(result.request.body)
    assert body.pop("model") == model
    assert body.pop(vendor.max_tokens_field) == CAP
    return body, result.adjusted


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("openai", "max_completion_tokens"),
        ("mimo", "max_completion_tokens"),
        ("deepseek", "max_tokens"),
        ("zhipu", "max_tokens"),
        ("zai", "max_tokens"),
        ("openai_compatible", "max_tokens"),
        ("local", "max_tokens"),
    ],
)
def test_each_vendor_has_its_name_for_the_cap(name: str, field: str):
    """OpenAI's reasoning models refuse max_tokens; DeepSeek and GLM know nothing else."""
    assert registry.find(name).max_tokens_field == field


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("openai", "https://api.openai.com/v1/chat/completions"),
        ("deepseek", "https://api.deepseek.com/chat/completions"),
        ("zai", "https://api.z.ai/api/paas/v4/chat/completions"),
        ("zhipu", "https://open.bigmodel.cn/api/paas/v4/chat/completions"),
        ("mimo", "https://api.xiaomimimo.com/v1/chat/completions"),
    ],
)
def test_the_default_address_is_the_vendors_own(name: str, url: str):
    """A channel without a base URL reaches the vendor, and /v1 is never appended to /v4."""
    vendor = registry.find(name)
    assert vendor.chat_url(channel_of(vendor, base_url=vendor.base_url)) == url


@pytest.mark.parametrize(
    ("name", "env"),
    [
        ("openai", "OPENAI_API_KEY"),
        ("deepseek", "DEEPSEEK_API_KEY"),
        ("zai", "ZAI_API_KEY"),
        ("zhipu", "ZHIPU_API_KEY"),
        ("mimo", "MIMO_API_KEY"),
        ("openai_compatible", None),
        ("local", None),
    ],
)
def test_a_vendor_with_a_key_of_its_own_names_its_variable(name: str, env: str | None):
    """Only these are looked for in the environment."""
    vendor = registry.find(name)
    assert (vendor.env_name, vendor.needs_key) == (env, env is not None)


def test_openai_takes_everything_as_it_is():
    """The defaults are OpenAI: developer messages, schemas, efforts, penalties and names pass."""
    fields = {
        "messages": [{"role": "developer", "content": "x"}, {**USER, "name": "me"}],
        "response_format": BY_SCHEMA,
        "reasoning_effort": "none",
        "frequency_penalty": 1,
        "tool_choice": "required",
        "tools": [{"type": "function", "function": {"name": "f", "strict": True}}],
        "n": 3,
    }
    assert prepare("openai", **fields) == (fields, ())


def test_openai_loses_what_only_other_vendors_know():
    """top_k is of the Messages API; reasoning_content is how others think, and has come by way of
    one of their models.
    """
    assistant = {"role": "assistant", "content": "I see."}
    thought = {**assistant, "reasoning_content": "Hm."}
    assert prepare("openai", messages=[USER, thought, USER], top_k=40) == (
        {"messages": [USER, assistant, USER]},
        ("messages.reasoning_content=dropped", "top_k=dropped"),
    )


@pytest.mark.parametrize("name", CHAT_ONLY)
def test_developer_becomes_system_where_there_is_no_such_role(name: str):
    """Only the role changes; every other message stays the bytes that came."""
    vendor = registry.find(name)
    other = b'{ "role":"user", "content":"the \\"developer\\" said 1.50" }'
    raw = b'{"messages":[{"role":"developer","content":"be nice","x":1.50},' + other + b"]}"
    result = vendor.prepare(channel_of(vendor), "m", call_of(raw), CAP, "hop")
    assert b'{"role":"system","content":"be nice","x":1.50},' + other in result.request.body
    assert result.adjusted == ("messages.role=developer->system",)


def test_an_escaped_developer_is_one_too():
    """JSON may write any letter as an escape."""
    vendor = registry.find("deepseek")
    call = call_of(b'{"messages":[{"role":"\\u0064eveloper","content":"x"}]}')
    body = vendor.prepare(channel_of(vendor), "m", call, CAP, "hop").request.body
    assert b'"role":"system"' in body


@pytest.mark.parametrize("name", [*GLM, *THINKERS])
def test_a_schema_becomes_text_where_only_json_mode_is_known(name: str):
    """The schema goes into the leading system message, which is made if there is none."""
    body, adjusted = prepare(name, response_format=BY_SCHEMA)
    assert body["response_format"] == {"type": "json_object"}
    assert adjusted == ("response_format=json_object",)
    system, user = body["messages"]
    assert system["role"] == "system"
    assert system["content"].endswith(msgspec.json.encode(SCHEMA).decode())
    assert user == USER
    for content in ("Be brief.", [{"type": "text", "text": "Be brief."}]):
        messages = [{"role": "system", "content": content}, USER]
        body, _ = prepare(name, messages=messages, response_format=BY_SCHEMA)
        assert len(body["messages"]) == 2
        assert "Be brief." in str(body["messages"][0]["content"])
        assert "integer" in str(body["messages"][0]["content"])


@pytest.mark.parametrize("name", ["local", "openai_compatible"])
def test_a_schema_passes_where_the_server_knows_it(name: str):
    """llama.cpp and vLLM have structured outputs; a channel may say that its server has none."""
    assert prepare(name, response_format=BY_SCHEMA) == (
        {"messages": [USER], "response_format": BY_SCHEMA},
        (),
    )
    vendor = registry.find(name)
    channel = channel_of(vendor, options=ChannelOptions(json_schema=False))
    call = call_of(msgspec.json.encode({"messages": [USER], "response_format": BY_SCHEMA}))
    result = vendor.prepare(channel, "m", call, CAP, "hop")
    assert result.adjusted == ("response_format=json_object",)


@pytest.mark.parametrize("name", [*GLM, *THINKERS])
def test_json_mode_itself_passes(name: str):
    """json_object is what all of them have."""
    fields = {"messages": [USER], "response_format": {"type": "json_object"}}
    assert prepare(name, **fields) == (fields, ())


@pytest.mark.parametrize(
    ("asked", "given"),
    [("minimal", "low"), ("medium", "high"), ("xhigh", "high"), ("ultra", "max")],
)
def test_deepseek_knows_three_efforts(asked: str, given: str):
    """The others take the nearest one, and are told."""
    body, adjusted = prepare("deepseek", reasoning_effort=asked)
    assert body == {"messages": [USER], "reasoning_effort": given}
    assert adjusted == (f"reasoning_effort={given}",)


@pytest.mark.parametrize("effort", ["low", "high", "max", "unheard-of", None])
def test_deepseek_gets_its_own_efforts_and_unknown_ones_untouched(effort: str | None):
    """An effort that nobody knows is the vendor's to refuse."""
    fields = {"messages": [USER], "reasoning_effort": effort}
    assert prepare("deepseek", **fields) == (fields, ())


@pytest.mark.parametrize("name", ["deepseek", *GLM, "mimo"])
def test_effort_none_turns_thinking_off(name: str):
    """What OpenAI calls effort `none` is `thinking: disabled` at these."""
    body, adjusted = prepare(name, reasoning_effort="none")
    assert body == {"messages": [USER], "thinking": {"type": "disabled"}}
    assert adjusted == ("reasoning_effort=thinking:disabled",)


@pytest.mark.parametrize("name", [*GLM, "mimo"])
@pytest.mark.parametrize("effort", ["minimal", "high", "max"])
def test_any_other_effort_turns_the_switch_on(name: str, effort: str):
    """GLM and MiMo think or do not; there are no degrees."""
    body, adjusted = prepare(name, reasoning_effort=effort)
    assert body == {"messages": [USER], "thinking": {"type": "enabled"}}
    assert adjusted == ("reasoning_effort=thinking:enabled",)


@pytest.mark.parametrize("name", GLM)
def test_glm_5_3_cannot_stop_thinking(name: str):
    """It refuses `disabled`, so that the wish is left out and told."""
    body, adjusted = prepare(name, "GLM-5.3", reasoning_effort="none")
    assert body == {"messages": [USER]}
    assert adjusted == ("reasoning_effort=dropped",)


@pytest.mark.parametrize("name", GLM)
def test_thoughts_that_are_sent_back_are_kept_by_glm(name: str):
    """Unless thinking is off, or the caller has said how it wants it."""
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "reasoning_content": "c"},
        {"role": "user", "content": "d"},
    ]
    kept = {"type": "enabled", "clear_thinking": False}
    body, adjusted = prepare(name, messages=messages)
    assert (body["thinking"], adjusted) == (kept, ("thinking=clear_thinking:false",))
    body, _ = prepare(name, messages=messages, reasoning_effort="high")
    assert body["thinking"] == kept
    own = {"type": "enabled"}
    assert prepare(name, messages=messages, thinking=own)[0]["thinking"] == own
    off = prepare(name, "glm-5.2", messages=messages, reasoning_effort="none")[0]
    assert off["thinking"] == {"type": "disabled"}
    assert "thinking" not in prepare(name, messages=messages[:1])[0]


@pytest.mark.parametrize("name", ["deepseek", *GLM, "mimo", "openai_compatible", "local", "openai"])
def test_a_callers_own_thinking_passes_untouched(name: str):
    """It is the vendor's own word; an effort beside it does not overrule it."""
    thinking = {"type": "enabled", "clear_thinking": False}
    assert prepare(name, thinking=thinking) == ({"messages": [USER], "thinking": thinking}, ())
    if name in ("deepseek", *GLM, "mimo"):
        body, adjusted = prepare(name, thinking=thinking, reasoning_effort="none")
        assert body == {"messages": [USER], "thinking": thinking}
        assert adjusted == ("reasoning_effort=dropped",)


@pytest.mark.parametrize("name", THINKERS)
@pytest.mark.parametrize("content", [{}, {"content": None}])
def test_tool_calls_get_the_reasoning_and_content_that_these_demand(
    name: str, content: dict[str, None]
):
    """DeepSeek and MiMo answer 400 to tool calls without reasoning_content or with content null."""
    turn = {"role": "assistant", **content, "tool_calls": CALLS}
    body, adjusted = prepare(name, messages=[USER, turn])
    assert body["messages"] == [USER, {**turn, "content": "", "reasoning_content": ""}]
    assert adjusted == ("messages.content=added", "messages.reasoning_content=added")


@pytest.mark.parametrize("name", THINKERS)
def test_reasoning_is_added_only_where_it_is_missing_and_wanted(name: str):
    """What came stays, and without thinking none is asked for."""
    whole = {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": CALLS}
    plain = {"role": "assistant", "content": "x", "tool_calls": []}
    assert prepare(name, messages=[whole, plain]) == ({"messages": [whole, plain]}, ())
    bare = {"role": "assistant", "content": "", "tool_calls": CALLS}
    off, _ = prepare(name, messages=[bare], thinking={"type": "disabled"})
    assert off["messages"] == [bare]
    off, _ = prepare(name, messages=[bare], reasoning_effort="none")
    assert off["messages"] == [bare]


@pytest.mark.parametrize("name", ["openai", "zai", "openai_compatible", "local"])
def test_others_keep_tool_calls_as_they_came(name: str):
    """content null beside tool calls is how OpenAI's own SDK sends it."""
    messages = [{"role": "assistant", "content": None, "tool_calls": CALLS}]
    assert prepare(name, messages=messages) == ({"messages": messages}, ())


@pytest.mark.parametrize("name", GLM)
def test_glm_loses_what_it_refuses(name: str):
    """Penalties, names of messages and strict tools go; everything else of them stays."""
    function = {"name": "f", "description": "d", "parameters": SCHEMA}
    body, adjusted = prepare(
        name,
        messages=[{**USER, "name": "me"}],
        frequency_penalty=1,
        presence_penalty=0.5,
        tools=[
            {"type": "function", "function": {**function, "strict": True}},
            {"type": "function", "function": function},
        ],
        tool_choice="auto",
    )
    assert body == {
        "messages": [USER],
        "tools": [{"type": "function", "function": function}] * 2,
        "tool_choice": "auto",
    }
    assert adjusted == (
        "tools.strict=dropped",
        "messages.name=dropped",
        "frequency_penalty=dropped",
        "presence_penalty=dropped",
    )


@pytest.mark.parametrize("name", GLM)
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_glm_chooses_tools_by_itself(name: str, choice: object):
    """A forced choice becomes auto, and is told."""
    tools = [{"type": "function", "function": {"name": "f"}}]
    body, adjusted = prepare(name, tools=tools, tool_choice=choice)
    assert body == {"messages": [USER], "tools": tools, "tool_choice": "auto"}
    assert adjusted == ("tool_choice=auto",)


@pytest.mark.parametrize("name", GLM)
def test_glm_is_not_offered_tools_that_it_must_not_call(name: str):
    """`none` is honoured by leaving the tools out."""
    body, adjusted = prepare(name, tools=[{"type": "function"}], tool_choice="none")
    assert body == {"messages": [USER]}
    assert adjusted == ("tool_choice=dropped", "tools=dropped")


def test_the_local_model_gives_one_choice():
    """llama.cpp reports the usage of one choice only, which could not be charged rightly."""
    vendor = registry.find("local")
    call = call_of(b'{"messages":[],"n":2}', choices=2)
    with pytest.raises(BadRequest) as caught:
        vendor.prepare(channel_of(vendor), "m", call, CAP, "hop")
    assert (caught.value.code, caught.value.param) == ("unsupported_value", "n")


FINISH_REASONS = [
    ("zai", {"sensitive": "content_filter", "model_context_window_exceeded": "length"}),
    ("zhipu", {"sensitive": "content_filter", "model_context_window_exceeded": "length"}),
]


@pytest.mark.parametrize(("name", "reasons"), FINISH_REASONS)
def test_foreign_finish_reasons_have_standard_names(name: str, reasons: dict[str, str]):
    """SDKs know five reasons."""
    assert registry.find(name).finish_reasons == reasons


def test_some_finish_reasons_are_failures():
    """The answer broke off; it is no answer that merely ended."""
    failing = {v.name: set(v.failing_finish_reasons) for v in registry.all().values()}
    assert {name: reasons for name, reasons in failing.items() if reasons} == {
        "deepseek": {"insufficient_system_resource"},
        "zai": {"network_error"},
        "zhipu": {"network_error"},
    }


@pytest.mark.parametrize("name", ["local", "openai_compatible"])
@pytest.mark.parametrize("field", ["n_predict", "n_cmpl", "best_of"])
def test_other_names_for_more_than_was_held_are_dropped(name: str, field: str):
    """llama.cpp would write as many tokens as n_predict says, whatever our cap is."""
    more: dict[str, Any] = {field: 400}
    assert prepare(name, **more) == ({"messages": [USER]}, (f"{field}=dropped",))


@pytest.mark.parametrize(
    "options",
    [
        ChannelOptions(drop=("max_tokens",)),
        ChannelOptions(rename=(("max_tokens", "max_new_tokens"),)),
        ChannelOptions(max_tokens_field="max_new_tokens"),
        ChannelOptions(max_tokens_field="n_predict"),
    ],
)
def test_no_option_and_no_caller_stands_above_the_cap(options: ChannelOptions):
    """What is held is what is sent, under whichever name the server knows it."""
    vendor = registry.find("openai_compatible")
    asked = {"max_tokens": 9, "max_new_tokens": 999, "n_predict": 999}
    call = call_of(msgspec.json.encode({"messages": [USER], **asked}))
    channel = channel_of(vendor, options=options)
    body = msgspec.json.decode(vendor.prepare(channel, "m", call, CAP, "hop").request.body)
    name = options.max_tokens_field or dict(options.rename).get("max_tokens", "max_tokens")
    assert body[name] == CAP
