"""The matrix of tenants: whatever names something that is kept, with another account's id.

Each answer is compared with the one for an id that there never was. They are the same but for that
id, and nothing of either leaves for an upstream: on the native way and on the translated one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.e2e.serving import Answer, Serving, events, until
from tests.e2e.tenants import Tenants, nobodys, tenants_in, told

WAYS = ("native", "translated")
REFUSED = "invalid_request_error"


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    """One gateway for all of these tests."""
    with tenants_in(tmp_path_factory.mktemp("tenants")) as made:
        yield made


# The ways to make a call. Each gives what the client is told, as one text.

Fields = dict[str, Any]
Route = Callable[[Serving, str, Fields], str]


def ask(gateway: Serving, key: str, path: str, fields: Fields) -> Answer:
    """POST below /v1/responses."""
    return gateway.request("POST", "/v1/responses" + path, json.dumps(fields).encode(), key=key)


def _plain(path: str = "", **more: Any) -> Route:
    return lambda gateway, key, fields: told(ask(gateway, key, path, {**fields, **more}))


def _background(gateway: Serving, key: str, fields: Fields) -> str:
    answer = ask(gateway, key, "", {**fields, "background": True})
    if answer.status != 200:
        return told(answer)
    path = f"/v1/responses/{answer.json['id']}"
    running = ("queued", "in_progress")
    until(lambda: gateway.get(path, key).json["status"] not in running, 10, "it ends")
    response = gateway.get(path, key).json
    return f"200 {response['status']} {response['error']} {response['output']}"


def _on_socket(**more: Any) -> Route:
    def route(gateway: Serving, key: str, fields: Fields) -> str:
        uri = gateway.base_url.replace("http", "ws", 1) + "/responses"
        with connect(uri, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
            socket.send(json.dumps({"type": "response.create", **fields, **more}))
            while True:
                frame = json.loads(socket.recv(10))
                if frame["type"] == "error":
                    return json.dumps(frame)
                if frame["type"].removeprefix("response.") in ("completed", "failed"):
                    return f"200 {frame['response']['status']} {frame['response']['error']}"

    return route


ROUTES: dict[str, Route] = {
    "plain": _plain(),
    "stream": _plain(stream=True),
    "not kept": _plain(store=False),
    "background": _background,
    "compact": _plain("/compact"),
    "count": _plain("/input_tokens"),
    "socket": _on_socket(),
    "warm-up": _on_socket(generate=False),
}
SERVED = [name for name in ROUTES if name not in ("count", "warm-up")]  # by an upstream


def both(tenants: Tenants, route: str, fields: Fields, ids: dict[str, str]) -> tuple[str, str]:
    """What alice is told of bob's id and of one that there never was, both written as `ID`.

    `ids` are one of each, by the word that stands for it in `fields`: the unknown one has the same
    length. Nothing of them may leave.
    """
    answers: list[str] = []
    for unknown in (False, True):
        text = json.dumps(fields)
        for word, value in ids.items():
            text = text.replace(word, nobodys(value) if unknown else value)
        tenants.upstream.clear()
        answer = ROUTES[route](tenants.gateway, tenants.alice, json.loads(text))
        for word, value in ids.items():
            written = nobodys(value) if unknown else value
            assert all(written.encode() not in sent.raw for sent in tenants.upstream.requests)
            answer = answer.replace(written, word)
        answers.append(answer)
    return answers[0], answers[1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", ROUTES)
def test_no_call_can_name_what_another_account_keeps(
    tenants: Tenants, route: str, way: str
) -> None:
    """previous_response_id and item references, with and without a type: 400, not found, free."""
    made = tenants.made_by_bob(way)
    listed = tenants.gateway.get(f"/v1/responses/{made['id']}/input_items", tenants.bob).json
    message = {"role": "user", "content": "go on"}
    cases: list[tuple[Fields, str, str]] = [
        ({"input": "go on", "previous_response_id": "ID"}, made["id"], "previous_response"),
        ({"input": [{"type": "item_reference", "id": "ID"}]}, made["output"][-1]["id"], "item"),
        ({"input": [message, {"id": "ID"}]}, listed["data"][0]["id"], "item"),
    ]
    before = tenants.gateway.money(tenants.alice)
    for fields, known, what in cases:
        one, other = both(tenants, route, {"model": way, **fields}, {"ID": known})
        assert one == other
        assert f"{what}_not_found" in one
        assert REFUSED in one
        assert tenants.upstream.requests == []
    assert tenants.gateway.money(tenants.alice) == before


@pytest.mark.parametrize("way", WAYS)
def test_no_route_with_an_id_knows_another_accounts_response(tenants: Tenants, way: str) -> None:
    """GET, its stream, its items, cancel, DELETE and the receipt: 404. And it stays as it was."""
    plain = tenants.made_by_bob(way)["id"]
    gateway, bob = tenants.gateway, tenants.bob
    begun = {"model": way, "input": "say: mine", "background": True}
    behind = ask(gateway, bob, "", begun).json["id"]
    until(lambda: gateway.get(f"/v1/responses/{behind}", bob).json["status"] == "completed", 10, "")
    for known in (plain, behind):
        before = gateway.get(f"/v1/responses/{known}", bob)
        for method, path in (
            ("GET", f"/v1/responses/{known}"),
            ("GET", f"/v1/responses/{known}?stream=true&starting_after=1"),
            ("GET", f"/v1/responses/{known}/input_items?limit=1"),
            ("POST", f"/v1/responses/{known}/cancel"),
            ("DELETE", f"/v1/responses/{known}"),
            ("GET", f"/v1/receipts/{known}"),
            ("GET", f"/v1/receipts/req_{known.removeprefix('resp_')}"),
        ):
            unknown = path.replace(known[5:], nobodys(known)[5:])
            one = told(gateway.request(method, path, key=tenants.alice))
            other = told(gateway.request(method, unknown, key=tenants.alice))
            assert one == other.replace(nobodys(known)[5:], known[5:])
            assert one.startswith("404")
        assert gateway.get(f"/v1/responses/{known}", bob).body == before.body


def test_a_list_is_not_read_on_from_another_accounts_item(tenants: Tenants) -> None:
    """`after` names an item of the response, or none."""
    made = [
        ask(tenants.gateway, key, "", {"model": "native", "input": "1"}).json
        for key in (tenants.alice, tenants.bob)
    ]
    theirs = made[1]["output"][0]["id"]
    path = f"/v1/responses/{made[0]['id']}/input_items?after="
    one = told(tenants.gateway.get(path + theirs, tenants.alice))
    other = told(tenants.gateway.get(path + nobodys(theirs), tenants.alice))
    assert one == other.replace(nobodys(theirs), theirs)
    assert one.startswith("400")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("route", SERVED)
def test_what_was_sealed_for_another_account_does_not_open(
    tenants: Tenants, route: str, way: str
) -> None:
    """Reasoning and summaries: 400 invalid_encrypted_content, as for a seal that was broken."""
    fields = {"store": False, "include": ["reasoning.encrypted_content"]}
    thought = tenants.made_by_bob("translated", input="think: hm\nsay: ok", **fields)["output"][0]
    compacted = ask(tenants.gateway, tenants.bob, "/compact", {"model": way, "input": "say: sum"})
    for item in (thought, compacted.json["output"][-1]):
        assert item["encrypted_content"].startswith("fb1.")
        blob = item["encrypted_content"]
        sent = [{**item, "encrypted_content": "ID"}, {"role": "user", "content": "go on"}]
        one, other = both(tenants, route, {"model": way, "input": sent}, {"ID": blob})
        assert one == other
        assert "was not sealed here for this account" in one
        assert tenants.upstream.requests == []


def _user(**part: Any) -> list[Any]:
    return [{"role": "user", "content": [part, {"type": "input_text", "text": "Look."}]}]


def _item(**item: Any) -> list[Any]:
    return [item, {"role": "user", "content": "go on"}]


def _tool(**tool: Any) -> Fields:
    return {"input": "go on", "tools": [tool]}


# Objects that lie at the vendor, in the one account there that all callers share.
AT_THE_VENDOR: dict[str, Fields] = {
    "file": {"input": _user(type="input_file", file_id="ID")},
    "image": {"input": _user(type="input_image", file_id="ID", detail="auto")},
    "prompt": {"input": "go on", "prompt": {"id": "ID"}},
    "conversation": {"input": "go on", "conversation": "ID"},
    "vector store": _tool(type="file_search", vector_store_ids=["ID"]),
    "container": _tool(type="code_interpreter", container="ID"),
    "container's files": _tool(
        type="code_interpreter", container={"type": "auto", "file_ids": ["ID"]}
    ),
    "mask": _tool(type="image_generation", input_image_mask={"file_id": "ID"}),
    "shell": _tool(type="shell", environment={"type": "container_reference", "container_id": "ID"}),
    "drawing": {
        "input": _item(type="image_generation_call", id="ID", status="completed", result=None)
    },
    "code's container": {
        "input": _item(
            type="code_interpreter_call",
            id="ci_1",
            code="1",
            container_id="ID",
            status="completed",
            outputs=[],
        )
    },
    "screenshot": {
        "input": _item(
            type="computer_call_output",
            call_id="c",
            output={"type": "computer_screenshot", "file_id": "ID"},
        )
    },
}
# Upstreams that speak chat have none of these: what nobody needs is left out and named. So is a
# shell at the vendor, which has no price.
REFUSED_IN_CHAT = frozenset(("file", "image", "prompt", "conversation"))
REFUSED_BY_ALL = frozenset(AT_THE_VENDOR) - {"shell"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", AT_THE_VENDOR)
def test_nothing_that_lies_at_a_vendor_can_be_named(tenants: Tenants, kind: str, way: str) -> None:
    """By whichever route an upstream is asked: the id never leaves, and where it would have been
    of use, it is 400 whoever's it is.
    """
    for route in SERVED:
        known = "file-BobsOwn0123456789abcd"
        one, other = both(tenants, route, {"model": way, **AT_THE_VENDOR[kind]}, {"ID": known})
        # A summary is asked for in chat where there is a choice.
        is_native = way == "native" and route != "compact"
        if kind in (REFUSED_BY_ALL if is_native else REFUSED_IN_CHAT):
            assert one == other
            assert "unsupported_" in one or "invalid_prompt" in one


@pytest.mark.parametrize("route", SERVED)
def test_thoughts_before_another_accounts_call_are_not_recalled(
    tenants: Tenants, route: str
) -> None:
    """What led to a tool call is remembered by its id for who was answered, and for nobody else."""
    secret = f"bobs-thought-before-{route.replace(' ', '-')}"
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
    asked = {"input": f"think: {secret}\ncall: f {{}}", "tools": [tool], "store": False}
    made = tenants.made_by_bob("translated", **asked)
    call_id = next(item["call_id"] for item in made["output"] if item["type"] == "function_call")
    items = [
        {"role": "user", "content": "go on"},
        {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call_id, "output": "done"},
    ]
    fields = {"model": "translated", "input": items, "tools": [tool]}

    def sent_for(key: str) -> bytes:
        tenants.upstream.clear()
        ROUTES[route](tenants.gateway, key, fields)
        sent = b"".join(each.raw for each in tenants.upstream.requests)
        assert call_id.encode() in sent
        return sent

    # There are two workers, and only the one that answered remembers.
    until(lambda: secret.encode() in sent_for(tenants.bob), 10, "it is remembered for bob")
    assert all(secret.encode() not in sent_for(tenants.alice) for _ in range(6))


def test_events_of_a_stream_belong_to_their_account(tenants: Tenants) -> None:
    """Another's background response gives no event at any number; its owner gets them all."""
    gateway = tenants.gateway
    body = {"model": "translated", "input": "say: a b c", "background": True, "stream": True}
    seen = events(ask(gateway, tenants.bob, "", body).body)
    path = f"/v1/responses/{seen[0]['response']['id']}?stream=true&starting_after="
    for after in range(len(seen)):
        assert gateway.get(f"{path}{after}", tenants.alice).status == 404
        assert events(gateway.get(f"{path}{after}", tenants.bob).body) == seen[after + 1 :]
