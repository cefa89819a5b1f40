"""The log: one line of JSON an event, and no secret in any of them."""

import asyncio
import io
import json
import logging

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from farebox.core.call import Attempt
from farebox.core.ids import new_key
from farebox.core.ports import Settled
from farebox.core.usage import CLASSES, Usage
from farebox.telemetry import logs
from farebox.telemetry.access import Line, line_of, words_of
from farebox.telemetry.record import Record, current_record
from tests.settlements import settlement

VENDOR_SECRET = 'v"endor\\secret-ü-0123456789'
KEY = new_key()


@pytest.fixture
def stream():
    """A log of its own for the test; what was configured before is put back."""
    root, output = logging.getLogger(), io.StringIO()
    handlers, level, before = root.handlers, root.level, structlog.get_config()
    logs.configure("info", logs.Redactor([VENDOR_SECRET]), output)
    yield output
    root.handlers, root.level = handlers, level
    structlog.configure(**before)


def fail(body, error):
    """Fails with the user's words among its arguments."""
    assert body
    raise error


def raised(error):
    """The error with a traceback, from a function that knows a user's words."""
    body = "words of a user"
    with pytest.raises(type(error)) as caught:
        fail(body, error)
    return caught.value


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json(stream):
    """Time, level and event lead each line; lines below the level are not written."""
    logs.log.info("hello", port=8790)
    logs.log.debug("detail")
    (line,) = lines(stream)
    assert list(line) == ["time", "level", "event", "port"]
    assert (line["level"], line["event"], line["port"]) == ("info", "hello", 8790)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"the key {KEY} was sent", id="key"),
        pytest.param(f"Authorization: Bearer {KEY}", id="header"),
        "authorization: bearer abc.def-123/+=",
        "sk-proj-abcdefghijklmnop",
        f"upstream said: wrong key {VENDOR_SECRET}",
        "http://user:pass%40word@proxy.example:3128 refused",
    ],
)
@pytest.mark.parametrize("how", ["event", "field", "nested", "bytes", "library", "traceback"])
def test_no_secret_reaches_the_log(stream, text, how):
    """Wherever a key or a vendor's secret stands in an event, it is struck out."""
    if how == "event":
        logs.log.warning(text)
    elif how == "field":
        logs.log.warning("x", detail=text)
    elif how == "nested":
        logs.log.warning("x", detail={"headers": [("a", text)]})
    elif how == "bytes":
        logs.log.warning("x", detail=text)
    elif how == "library":
        logging.getLogger("some.library").warning("oops %s", text)
    else:
        logs.log.error("defect", exc_info=raised(ValueError(text)))
    written = stream.getvalue()
    assert len(lines(stream)) == 1
    assert logs.REDACTED in written
    for secret in (KEY, "abc.def", "abcdefghij", "endor", "pass%40word"):
        assert secret not in written


def test_tracebacks_hold_no_local_variables(stream):
    """A traceback tells where, never what: bodies live in local variables."""
    logs.log.error("defect", exc_info=raised(RuntimeError("broke")))
    (line,) = lines(stream)
    assert "RuntimeError: broke" in line["exception"]
    assert "words of a user" not in line["exception"]


def test_ordinary_words_are_left_alone(stream):
    """Striking out does not eat what is no secret, nor secrets too short to tell from words."""
    logs.configure("info", logs.Redactor(["ok", ""]), stream)
    logs.log.info("task-force ok", url="http://127.0.0.1:8790/v1", risk="sk-1")
    (line,) = lines(stream)
    assert (line["event"], line["url"]) == ("task-force ok", "http://127.0.0.1:8790/v1")
    assert line["risk"] == "sk-1"


def test_secrets_can_be_changed(stream):
    """A new catalogue brings new secrets, and the log strikes those out from then on."""
    redactor = logs.Redactor()
    logs.configure("info", redactor, stream)
    redactor.know(["first-secret", "first-secret-and-more"])
    logs.log.info("first-secret-and-more")
    redactor.know(["second-secret"])
    logs.log.info("second-secret")
    assert [line["event"] for line in lines(stream)] == [logs.REDACTED, logs.REDACTED]


def test_libraries_log_into_the_same_stream(stream):
    """What uvicorn says comes as JSON too, with its logger's name; its access log is silent."""
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.access").info("GET / 200")
    (line,) = lines(stream)
    assert (line["level"], line["logger"]) == ("warning", "uvicorn.error")
    assert line["event"] == "Invalid HTTP request received."


def test_the_access_line_of_a_call(stream):
    """One line has what a call was, what it used and what it cost."""
    record = Record("req_1", "POST", account="ann", key="key_1")
    attempts = (Attempt(1, "first", None, "connect", 2), Attempt(2, "main", 200, None, 5))
    record.call = settlement(attempts=attempts, ttft_ms=4), Settled(40, 2)
    token = current_record.set(record)
    try:
        logs.access.write(record, "/v1/chat/completions", 200, 0.0123)
    finally:
        current_record.reset(token)
    (line,) = lines(stream)
    line.pop("time")
    assert line == {
        "level": "info",
        "event": "request",
        "request_id": "req_1",
        "method": "POST",
        "route": "/v1/chat/completions",
        "status": 200,
        "ms": 12.3,
        "account": "ann",
        "key": "key_1",
        "model": "m-1",
        "channel": "main",
        "stream": True,
        "outcome": "complete",
        "tokens": {"uncached_input": 10, "output": 5},
        "charge_nanocredits": 40,
        "absorbed_nanocredits": 2,
        "flags": [],
        "attempts": 2,
        "failed": ["first: connect"],
        "ttft_ms": 4,
    }


@given(st.lists(st.integers(0, 2**53), min_size=len(CLASSES), max_size=len(CLASSES)))
def test_an_access_line_has_the_tokens_that_there_were(counts):
    """By class and in the order of the classes, written by either way."""
    record = Record("req_1", "POST")
    record.call = settlement(usage=Usage(*counts)), Settled(40, 2)
    line = line_of(record, "/v1/chat/completions", 200, 0.1)
    there = {name: count for name, count in zip(CLASSES, counts, strict=True) if count}
    written = json.loads(msgspec.json.encode(line))["tokens"], msgspec.to_builtins(line)["tokens"]
    assert [list(each.items()) for each in written] == [list(there.items())] * 2


def test_the_access_line_of_a_refusal_says_why(stream):
    """What the client was told, by its code; whoever is not known is not named."""
    logs.access.write(Record("req_1", "POST", error="invalid_api_key"), "/v1/models", 401, 0.001)
    (line,) = lines(stream)
    assert line["error"] == "invalid_api_key"
    assert not {"account", "key"} & set(line)


WORDS = ("method", "route", "account", "key", "error", "model", "channel", "flags", "failed")


def a_call(**words):
    """What access() is told of a call: every word is plain, but for those that are said."""
    word = {name: name for name in WORDS} | {"flags": "a-flag"} | words
    record = Record("req_1", word["method"], word["account"], word["key"], word["error"])
    call = settlement(
        model=word["model"],
        channel=word["channel"],
        flags=(word["flags"],),
        attempts=(Attempt(1, "main", None, word["failed"], 2),),
    )
    record.call = call, Settled(40, 2)
    return record, word["route"], 200, 0.001


def written(calls, redactor, output):
    """The access lines of these calls, which end in one turn of the event loop."""

    async def turn():
        for call in calls:
            logs.access.write(*call)
        await asyncio.sleep(0)

    before = len(output.getvalue())
    logs.configure("info", redactor, output)
    asyncio.run(turn())
    return output.getvalue()[before:]


@pytest.mark.parametrize("name", WORDS)
def test_a_secret_is_found_behind_lines_that_had_none(stream, name):
    """In each word that is not ours, after others were found plain, alone or among such."""
    redactor = logs.Redactor([VENDOR_SECRET])
    plain, guilty = a_call(), a_call(**{name: f"is {VENDOR_SECRET}"})
    for calls in ([plain], [plain], [guilty], [plain, guilty], [guilty, plain], [plain]):
        output = written(calls, redactor, stream)
        assert "endor" not in output
        assert output.count(logs.REDACTED) == calls.count(guilty)
        assert len(output.splitlines()) == len(calls)


def test_what_else_an_access_line_says_is_ours():
    """No word of a client's, an upstream's or an operator's, but those that are searched."""
    ours = "time level event status ms request_id stream outcome tokens"
    ours += " charge_nanocredits absorbed_nanocredits attempts ttft_ms"
    assert {*Line.__struct_fields__} == {*WORDS, *ours.split()}
    assert words_of([line_of(*a_call())]) == {(*WORDS[:-2], ("a-flag",), ("main: failed",))}


def test_a_secret_that_becomes_known_is_struck_out_of_lines_like_those_before(stream):
    """What was found plain was so by the secrets of its time."""
    redactor, call = logs.Redactor(), a_call(account="some-account")
    assert "some-account" in written([call], redactor, stream)
    redactor.know(["some-account"])
    assert "some-account" not in written([call], redactor, stream)
    redactor.know([])
    assert "some-account" in written([call], redactor, stream)


def test_a_line_that_could_not_be_written_says_nothing_of_those_like_it():
    """It was not in the text that was searched."""
    redactor, line = logs.Redactor([VENDOR_SECRET]), line_of(*a_call(account=VENDOR_SECRET))
    assert redactor.of_access(b"", [line]) == b""
    secret, redacted = f"{VENDOR_SECRET}\n".encode(), f"{logs.REDACTED}\n".encode()
    assert redactor.of_access(secret, [line]) == redacted


def test_access_lines_are_like_the_others(stream):
    """Time, level and event lead, secrets are struck out, and a higher level silences them."""
    record = Record("req_1", "POST", account=VENDOR_SECRET, key=KEY)
    logs.access.write(record, "/v1/models", 200, 0.001)
    logs.configure("warning", logs.Redactor(), stream)
    logs.access.write(record, "/v1/models", 200, 0.001)
    (line,) = lines(stream)
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["account"], line["key"]) == (logs.REDACTED, logs.REDACTED)
    assert line["request_id"] == "req_1"


def test_access_lines_of_one_turn_are_written_at_once(stream):
    """In their order, secrets struck out; the last turn's too, before the loop has ended."""
    seen = []

    async def turns():
        for key in ("key_1", KEY):
            logs.access.write(Record("req_1", "POST", key=key), "/v1/models", 200, 0.001)
            seen.append(len(lines(stream)))
        await asyncio.sleep(0)
        seen.append(len(lines(stream)))
        logs.access.write(Record("req_2", "POST"), "/v1/models", 200, 0.001)

    asyncio.run(turns())
    assert seen == [0, 0, 2]
    assert [line.get("key") for line in lines(stream)] == ["key_1", logs.REDACTED, None]


def test_access_lines_go_where_others_do_once_the_log_is_configured_anew(stream):
    """By whoever has taken the log over, also if access lines were not written before."""
    for level in ("info", "warning"):
        logs.configure(level, logs.Redactor(), stream)
        with structlog.testing.capture_logs() as events:
            structlog.configure(processors=[*structlog.get_config()["processors"]])
            logs.access.write(Record("req_1", "POST", account="ann"), "/v1/models", 200, 0.0123)
        told = [] if level == "warning" else [("request", "req_1", "ann", 12.3)]
        assert [(e["event"], e["request_id"], e["account"], e["ms"]) for e in events] == told
    assert not stream.getvalue()


def test_access_lines_tell_of_their_own_request_whoever_writes_them(stream):
    """Also if somebody takes the log over while those of one turn wait."""

    async def serve(request_id):
        record = Record(request_id, "POST")
        current_record.set(record)
        logs.access.write(record, "/v1/models", 200, 0.001)

    async def turn():
        serving = asyncio.gather(serve("req_1"), serve("req_2"))
        processors = [*structlog.get_config()["processors"]]
        asyncio.get_running_loop().call_soon(lambda: structlog.configure(processors=processors))
        await serving

    asyncio.run(turn())
    assert [line["request_id"] for line in lines(stream)] == ["req_1", "req_2"]


def test_an_access_line_that_cannot_be_written_takes_no_other_with_it(stream):
    """It is told of in its place, by its request's id."""

    async def turn():
        for number, account in enumerate(["ann", "\ud800", "bob"]):
            record = Record(f"req_{number}", "POST", account=account)
            logs.access.write(record, "/v1/models", 200, 0.001)

    asyncio.run(turn())
    told = {line["request_id"]: (line["event"], line.get("account")) for line in lines(stream)}
    assert told.pop("req_1") == ("request_not_written", None)
    assert told == {"req_0": ("request", "ann"), "req_2": ("request", "bob")}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_access_lines_are_encoded_and_ordered_as_all_others_are(stream, encoding):
    """Whatever encoding the log has; secrets are struck out of them, and nothing is held back."""
    file = io.BytesIO()
    errors = "backslashreplace"
    output = io.TextIOWrapper(file, encoding, errors, line_buffering=True)
    logs.configure("info", logs.Redactor([VENDOR_SECRET]), output)

    async def turns():
        for account in ("ü€", "ü€", VENDOR_SECRET):
            logs.log.info("before", account=account)
            logs.access.write(Record("req_1", "POST", account=account), "/v1/models", 200, 0.001)
            await asyncio.sleep(0)

    asyncio.run(turns())
    told = file.getvalue().decode(encoding).splitlines()
    shown = [line.partition('"account":')[2].partition('"')[2].partition('"')[0] for line in told]
    plain = "ü€".encode(encoding, errors).decode(encoding)
    assert shown == [*[plain] * 4, *[logs.REDACTED] * 2]
    assert ["before" in line for line in told] == [True, False] * 3


@given(st.floats(0, 1e5))
def test_milliseconds_have_one_digit_behind_the_point(duration_s):
    """The one that is nearest; a tie is not worth the time that round() takes."""
    line = line_of(Record("req_1", "POST"), "/v1/models", 200, duration_s)
    assert abs(line.ms - duration_s * 1000) <= 0.05 + 1e-7
    assert line.ms == round(line.ms, 1)


def test_a_terminal_gets_readable_lines_with_nothing_secret():
    """On a terminal lines are for people; secrets are struck out there too."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    before = structlog.get_config()
    logs.configure("info", logs.Redactor([VENDOR_SECRET]), terminal)
    try:
        logs.log.info("ready", key=KEY, secret=VENDOR_SECRET, flags=[])
    finally:
        logging.getLogger().handlers = []
        structlog.configure(**before)
    assert "ready" in terminal.getvalue()
    assert "flags" not in terminal.getvalue()
    assert KEY not in terminal.getvalue()
    assert "endor" not in terminal.getvalue()
