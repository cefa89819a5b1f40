"""What is not to be kept of the Responses API: every file that was written is searched for it."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.e2e.config import keys, write_config
from tests.e2e.serving import Answer, Serving
from tests.fakes.upstream import FakeUpstream

CANARY = "canary-of-a-response"
FAULTS = ("fail-500", "truncated", "incomplete", "failed-mid-stream", "garbage-event")
_MODELS = "".join(
    f"""
[[models]]
id = "{channel}-{fault}"
max_output = 100
channels = [{{ channel = "{channel}", model = "{fault}" }}]
price = {{ input = "1", output = "2" }}
"""
    for fault in FAULTS
    for channel in ("openai", "deepseek")
)
_BODY = {"input": f"{CANARY}\nsay: {CANARY}", "metadata": {"k": CANARY}, "instructions": CANARY}


def _ask(gateway: Serving, path: str = "", key: str | None = None, **fields: Any) -> Answer:
    body = json.dumps({**_BODY, **fields}).encode()
    return gateway.request("POST", "/v1/responses" + path, body, key=key)


def _on_a_socket(gateway: Serving) -> None:
    """Two responses of one conversation, a warm-up, an error, rubbish: all without `store`."""
    uri = gateway.base_url.replace("http", "ws", 1) + "/responses"
    with connect(uri, additional_headers={"Authorization": f"Bearer {gateway.key}"}) as socket:

        def respond(**fields: Any) -> Any:
            frame = {"type": "response.create", **_BODY, "store": False, **fields}
            socket.send(json.dumps(frame))
            while True:
                told = json.loads(socket.recv(10))
                if told["type"] in ("error", "response.completed", "response.failed"):
                    return told

        first = respond(model="gpt-5.6")["response"]["id"]
        assert respond(model="gpt-5.6", previous_response_id=first)["type"] == "response.completed"
        assert respond(model="gpt-5.6", generate=False)["type"] == "response.completed"
        assert respond(model="openai-truncated")["type"] == "response.failed"
        assert respond(model=CANARY)["type"] == "error"
        socket.send(CANARY)
        assert json.loads(socket.recv(10))["type"] == "error"


def _found(folder: Path) -> list[str]:
    """The files that have a word of it: the store, its log of writes, the gateway's own log."""
    written = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any(path.name.endswith(".db-wal") for path in written)
    found = [path.name for path, content in written.items() if CANARY.encode() in content]
    # What is large is compressed there, so that the rows are counted too.
    with closing(sqlite3.connect(folder / "data" / "farebox.db")) as database:
        for table in ("responses", "response_items", "response_events"):
            (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
            found += [table] * (count > 0)
    return found


@pytest.fixture
def debugging(fake_upstream: FakeUpstream, tmp_path: Path) -> Serving:
    """A gateway that logs all that it would ever log."""
    config = write_config(tmp_path / "farebox.toml", fake_upstream, _MODELS)
    args = ("--config", str(config), "--data-dir", str(tmp_path / "data"), "--no-local")
    return Serving(tmp_path, args, {**keys(fake_upstream), "FAREBOX_LOG_LEVEL": "debug"})


def test_what_shall_not_be_kept_is_nowhere(debugging: Serving) -> None:
    """store:false, whole, streamed or on a socket, answered or failed; counts and summaries."""
    with debugging as gateway:
        models = [f"{channel}-{fault}" for channel in ("openai", "deepseek") for fault in FAULTS]
        for model in ("gpt-5.6", "deepseek-v4-pro", *models, CANARY):
            for stream in (False, True):
                answer = _ask(gateway, model=model, stream=stream, store=False)
                assert (CANARY.encode() in answer.body) or answer.status >= 400
        assert _ask(gateway, "/compact", model="gpt-5.6").status == 200
        assert _ask(gateway, "/input_tokens", model="gpt-5.6").status == 200
        assert _ask(gateway, model="gpt-5.6", background=True, store=False).status == 400
        assert _ask(gateway, model=CANARY, background=True).status == 404
        assert _ask(gateway, model="gpt-5.6", previous_response_id=CANARY).status == 400
        assert _ask(gateway, model="gpt-5.6", input=[{"id": CANARY}]).status == 400
        for path in (CANARY, f"{CANARY}?stream=true", f"x/input_items?after={CANARY}"):
            assert gateway.get(f"/v1/responses/{path}").status == 404
        _on_a_socket(gateway)
        assert _found(gateway.folder) == []


def test_what_an_operator_does_not_keep_is_nowhere(debugging: Serving) -> None:
    """The switch counts for those who ask for it and those who say nothing."""
    debugging.environ = {**debugging.environ, "FAREBOX_RESPONSES_STORE": "false"}
    asked: list[dict[str, Any]] = [{}, {"store": True}, {"stream": True}, {"background": True}]
    with debugging as gateway:
        for model in ("gpt-5.6", "deepseek-v4-pro"):
            for fields in asked:
                _ask(gateway, model=model, **fields)
        assert _found(gateway.folder) == []


def test_what_was_deleted_is_nowhere_after_the_end(debugging: Serving) -> None:
    """Kept, kept in the background, and deleted: while it is there it is found, then not."""
    with debugging as gateway:
        kept = [_ask(gateway, model="gpt-5.6").json["id"]]
        streamed = _ask(gateway, model="gpt-5.6", background=True, stream=True)
        kept.append("resp_" + streamed.headers["x-request-id"].removeprefix("req_"))
        assert _found(gateway.folder) != []
        for response_id in kept:
            answer = gateway.request("DELETE", f"/v1/responses/{response_id}")
            assert answer.json == {"id": response_id, "object": "response", "deleted": True}
    written = [path.read_bytes() for path in gateway.folder.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in content for content in written)
