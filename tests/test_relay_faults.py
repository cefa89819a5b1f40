"""What the relay makes of an upstream that misbehaves: other channels, errors, charges."""

from __future__ import annotations

import pytest

from farebox import relay
from farebox.errors import FareboxError, UpstreamFailed
from farebox.passage import Passage
from farebox.settlement import settle
from tests.fakes.upstream import FakeUpstream, closed_port
from tests.relaying import USAGE, USAGE_CHARGE, Relaying

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fault",
    [
        "fail-500",
        "fail-503",
        "fail-429",
        "fail-401",
        "fail-402",
        "html-200",
        "bad-json-200",
        "error-200",
        "close-before-head",
        "empty-200",
        "list-200",
        "redirect-302",
    ],
)
async def test_failover_makes_one_charge_and_two_attempts(
    fake_upstream: FakeUpstream, fault: str, stream: bool
) -> None:
    """A channel that fails before anything was delivered costs nothing: the next one answers."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        client = await relaying.call(fault, "gpt-4o", usage=USAGE, stream=stream)
        settlement = relaying.settlement
        assert client.status == 200
        assert [attempt.channel for attempt in settlement.attempts] == [
            "ch-0-openai",
            "ch-1-openai",
        ]
        assert settlement.attempts[0].error
        assert (settlement.attempts[1].status, settlement.attempts[1].error) == (200, None)
        assert settlement.channel == "ch-1-openai"
        assert len(relaying.books.settled) == 1
        assert relaying.books.available == 10**10 - USAGE_CHARGE


@pytest.mark.parametrize("fault", ["error-first"])
async def test_a_stream_that_fails_before_its_first_event_fails_over(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Status 200 is no answer yet: until an event has left, another channel may give it."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        client = await relaying.call(fault, "gpt-4o", say="", usage=USAGE, stream=True)
        assert client.events[-1] == "[DONE]"
        assert len(relaying.settlement.attempts) == 2


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("fail-500", 502, None),
        ("fail-401", 502, None),
        ("fail-429", 429, "rate_limit_exceeded"),
        ("html-200", 502, None),
        ("close-before-head", 502, "upstream_unreachable"),
    ],
)
async def test_when_every_channel_fails_nothing_is_charged(
    fake_upstream: FakeUpstream, fault: str, status: int, code: str | None
) -> None:
    """The last channel's failure reaches the caller as an error, the hold is released."""
    async with Relaying(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call(fault)
        assert caught.value.status == status
        if code:
            assert caught.value.code == code
        assert relaying.settlement.outcome == "upstream_failed"
        assert relaying.books.available == 10**10
        assert "127.0.0.1" not in caught.value.message
        assert fake_upstream.key("openai") not in caught.value.message


async def test_what_came_of_a_body_that_broke_off_is_not_kept(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be megabytes, and the books and a slow client are still waited for."""
    kept: list[object] = []

    async def settle_seen(passage: Passage, failure: FareboxError | None) -> FareboxError | None:
        kept.append(passage.parts)
        return await settle(passage, failure)

    monkeypatch.setattr(relay, "settle", settle_seen)
    async with Relaying(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed):
            await relaying.call("truncated", usage=USAGE)
    assert kept == [None]


async def test_an_upstream_that_cannot_be_reached_is_said_so(fake_upstream: FakeUpstream) -> None:
    """Nobody listens: 502 upstream_unreachable, nothing charged."""
    urls = {"openai": f"http://127.0.0.1:{closed_port()}/v1"}
    async with Relaying(fake_upstream, base_urls=urls) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call()
        assert (caught.value.status, caught.value.code) == (502, "upstream_unreachable")
        assert relaying.books.available == 10**10


async def test_what_the_client_did_wrong_is_not_tried_elsewhere(
    fake_upstream: FakeUpstream,
) -> None:
    """A vendor's 400 is the client's fault: one attempt, outcome refused, nothing charged."""
    async with Relaying(fake_upstream, channels=("openai", "openai")) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call("refuse-400")
        assert caught.value.status == 400
        assert relaying.settlement.outcome == "refused"
        assert len(relaying.settlement.attempts) == 1
        assert relaying.books.available == 10**10


@pytest.mark.parametrize("fault", ["leak-400", "leak-500"])
async def test_an_upstreams_secrets_never_reach_the_caller(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Neither the key nor the address of an upstream is in an error."""
    async with Relaying(fake_upstream) as relaying:
        with pytest.raises(UpstreamFailed) as caught:
            await relaying.call(fault)
        assert fake_upstream.key("openai") not in caught.value.message
        assert str(fake_upstream.port) not in caught.value.message


@pytest.mark.parametrize(
    "fault",
    [
        "truncated",
        "reset-mid-stream",
        "early-end",
        "error-event",
        "garbage-event",
        "no-finish",
        "failing-finish",
    ],
)
async def test_a_stream_that_breaks_ends_in_an_error_and_what_came_is_charged(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """Never a clean [DONE] for an answer that has no end; what was delivered is paid for."""
    persona = "zai" if fault == "failing-finish" else "openai"
    async with Relaying(fake_upstream, channels=(persona,)) as relaying:
        client = await relaying.call(fault, say="one two three four five six", stream=True)
        assert client.ended
        assert "error" in client.events[-1]
        assert client.events[-1]["error"]["message"]
        assert "[DONE]" not in client.events
        settlement = relaying.settlement
        assert settlement.outcome == "upstream_failed"
        assert 0 < settlement.due_nanocredits <= settlement.hold_nanocredits
        assert relaying.books.available == 10**10 - settlement.due_nanocredits


@pytest.mark.parametrize(
    "fault",
    [
        "bytewise",
        "crlf",
        "nospace",
        "bom",
        "multiline",
        "comments",
        "bigline",
        "usage-with-choices",
        "usage-early",
        "no-done",
        "repeated-ids",
        "index-from-one",
    ],
)
async def test_odd_framing_changes_neither_the_answer_nor_the_charge(
    fake_upstream: FakeUpstream, fault: str
) -> None:
    """However the bytes come, the text is the same and the usage is read."""
    async with Relaying(fake_upstream) as relaying:
        client = await relaying.call(fault, say="one two three", usage=USAGE, stream=True)
        text = "".join(
            choice["delta"].get("content") or ""
            for event in client.events[:-1]
            for choice in event["choices"]
        )
        assert text.lstrip("x") == "one two three"
        assert client.events[-1] == "[DONE]"
        assert relaying.settlement.due_nanocredits == USAGE_CHARGE
        assert relaying.settlement.flags == ()


async def test_silence_is_filled_with_pings_and_ends_in_an_error(
    fake_upstream: FakeUpstream,
) -> None:
    """A waiting client gets a comment now and then; the idle limit ends the stream."""
    settings = {"keepalive_s": 0.05, "idle_timeout_s": 0.3}
    async with Relaying(fake_upstream, settings=settings) as relaying:
        client = await relaying.call("hang-mid-stream", say="one two three", stream=True)
        assert client.body.count(b": ping\n\n") >= 3
        assert "error" in client.events[-1]
        assert relaying.settlement.attempts[0].error == "idle_timeout"


async def test_a_failure_after_a_ping_is_an_event_with_the_same_code(
    fake_upstream: FakeUpstream,
) -> None:
    """The head has gone with the first ping, so the error can only be an event; failover goes
    on.
    """
    settings = {"keepalive_s": 0.05, "first_byte_timeout_s": 0.2}
    async with Relaying(fake_upstream, settings=settings) as relaying:
        client = await relaying.call("hang-before-head", stream=True)
        assert client.status == 200
        assert client.events[-1]["error"]["message"]
        assert relaying.settlement.attempts[0].error == "first_byte_timeout"
        assert relaying.books.available == 10**10
    async with Relaying(
        fake_upstream, settings=settings, channels=("openai", "openai")
    ) as relaying:
        client = await relaying.call("hang-before-head", "gpt-4o", stream=True)
        assert client.events[-1] == "[DONE]"
