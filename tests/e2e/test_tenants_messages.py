"""The matrix of tenants for the Messages API: whatever it could name that another account owns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.serving import Answer, events, until
from tests.e2e.tenants import Tenants, nobodys, tenants_in, told

WAYS = ("native-messages", "translated")
KNOWN = "file-BobsOwn0123456789abcd"
THINKING = {"type": "enabled", "budget_tokens": 1024}
Fields = dict[str, Any]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """One gateway for all of these tests."""
    with tenants_in(tmp_path_factory.mktemp("tenants")) as made:
        yield made


def ask(tenants: Tenants, key: str, path: str = "", **fields: Any) -> Answer:
    """POST below /v1/messages, with what no call may leave out."""
    body = {"max_tokens": 2000, "messages": [{"role": "user", "content": "go on"}], **fields}
    return tenants.gateway.request(
        "POST", "/v1/messages" + path, json.dumps(body).encode(), key=key
    )


def _user(**block: Any) -> Fields:
    return {"messages": [{"role": "user", "content": [block, {"type": "text", "text": "Look."}]}]}


_FILE = {"type": "file", "file_id": "ID"}
# Objects that lie at the vendor, in the one account there that all callers share.
AT_THE_VENDOR: dict[str, Fields] = {
    "document": _user(type="document", source=_FILE),
    "image": _user(type="image", source=_FILE),
    "upload": _user(type="container_upload", file_id="ID"),
    "container": {"container": "ID"},
    "container with skills": {"container": {"id": "ID", "skills": []}},
    "thread": {"thread": {"type": "continue", "previous_message_id": "ID"}},
    "user's profile": {"user_profile_id": "ID"},
    "workspace": {"workspace_id": "ID"},
    "credit": {"fallback_credit_token": "ID"},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", AT_THE_VENDOR)
def test_nothing_that_lies_at_a_vendor_can_be_named(
    tenants: Tenants, kind: str, stream: bool, way: str
) -> None:
    """400 whoever's it is and whether there is one, in Anthropic's shape; nothing leaves."""
    answers: list[str] = []
    tenants.upstream.clear()
    for named in (KNOWN, nobodys(KNOWN)):
        fields = json.loads(json.dumps(AT_THE_VENDOR[kind]).replace("ID", named))
        answer = ask(tenants, tenants.alice, model=way, stream=stream, **fields)
        error = answer.json["error"]
        assert (answer.status, error["type"]) == (400, "invalid_request_error")
        request_id = answer.json["request_id"]
        answers.append(told(answer).replace(named, "ID").replace(request_id, "REQUEST"))
    assert answers[0] == answers[1]
    assert tenants.upstream.requests == []


def _sealed(tenants: Tenants) -> Fields:
    """A thought of bob's, as he got it."""
    messages = [{"role": "user", "content": "think: hm\nsay: ok"}]
    answer = ask(tenants, tenants.bob, model="translated", messages=messages, thinking=THINKING)
    thought = answer.json["content"][0]
    assert (thought["type"], thought["signature"][:4]) == ("thinking", "fb1.")
    return thought


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_was_sealed_for_another_account_does_not_open(
    tenants: Tenants, stream: bool, way: str
) -> None:
    """A signature of bob's, and one whose seal is broken: the same 400."""
    thought = _sealed(tenants)
    blob = thought["signature"]
    tenants.upstream.clear()
    answers: list[str] = []
    for sent in (blob, nobodys(blob)):
        said = [{**thought, "signature": sent}, {"type": "text", "text": "ok"}]
        turns = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": said},
            {"role": "user", "content": "go on"},
        ]
        answer = ask(
            tenants, tenants.alice, model=way, stream=stream, messages=turns, thinking=THINKING
        )
        assert answer.status == 400, answer.body
        answers.append(told(answer).replace(answer.json["request_id"], "REQUEST"))
    assert answers[0] == answers[1]
    assert "was not sealed here for this account" in answers[0]
    assert tenants.upstream.requests == []


@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_before_another_accounts_call_are_not_recalled(
    tenants: Tenants, stream: bool
) -> None:
    """What led to a tool call is remembered by its id for who was answered, and for nobody else."""
    secret = f"bobs-thought-{'streamed' if stream else 'whole'}"
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    asked = [{"role": "user", "content": f"think: {secret}\ncall: f {{}}"}]
    made = ask(
        tenants, tenants.bob, model="translated", messages=asked, tools=[tool], stream=stream
    )
    if stream:
        begun = [each["content_block"] for each in events(made.body) if "content_block" in each]
    else:
        begun = made.json["content"]
    (called,) = [block for block in begun if block["type"] == "tool_use"]
    result = {"type": "tool_result", "tool_use_id": called["id"], "content": "done"}
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": [{**called, "input": {}}]},
        {"role": "user", "content": [result]},
    ]

    def sent_for(key: str) -> bytes:
        tenants.upstream.clear()
        ask(tenants, key, model="translated", messages=turns, tools=[tool])
        sent = b"".join(each.raw for each in tenants.upstream.requests)
        assert called["id"].encode() in sent
        return sent

    # There are two workers, and only the one that answered remembers.
    until(lambda: secret.encode() in sent_for(tenants.bob), 10, "it is remembered for bob")
    assert all(secret.encode() not in sent_for(tenants.alice) for _ in range(6))


@pytest.mark.parametrize("way", WAYS)
def test_a_receipt_is_found_by_a_messages_id_by_its_owner_alone(tenants: Tenants, way: str) -> None:
    """By `msg_…` and by `req_…`: 404 for alice, as for an id that there never was."""
    known = ask(tenants, tenants.bob, model=way).json["id"]
    for path in (f"/v1/receipts/{known}", f"/v1/receipts/req_{known.removeprefix('msg_')}"):
        assert tenants.gateway.get(path, tenants.bob).status == 200
        unknown = path.replace(known[4:], nobodys(known)[4:])
        one = told(tenants.gateway.get(path, tenants.alice))
        other = told(tenants.gateway.get(unknown, tenants.alice))
        assert one == other.replace(nobodys(known)[4:], known[4:])
        assert one.startswith("404")
