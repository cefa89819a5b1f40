"""The tool from its command line, against a stand-in that is right but for what a test spoils."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.__main__ import main
from tests.conformance.cases import CASES
from tests.conformance.standin import StandIn, Value, document, serving


@dataclass
class Tool:
    """The tool with a stand-in to run against; `flags` come after the usual ones."""

    stand_in: StandIn
    schema: Path

    def run(self, *flags: str, url: str | None = None) -> tuple[int, str]:
        """The exit code and the report."""
        out = io.StringIO()
        where = [url or self.stand_in.url, "sk-fb-x", "a-model"]
        return main(["--schema", str(self.schema), *where, "--script", *flags], out), out.getvalue()


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    schema = tmp_path / "schema.yaml"
    schema.write_text(yaml.safe_dump(document()), encoding="utf-8")
    with serving(StandIn()) as stand_in:
        yield Tool(stand_in, schema)


def test_a_right_gateway_passes_every_case_in_every_mode(tool: Tool) -> None:
    """A line a case, the sum in the end, exit 0."""
    code, report = tool.run()
    assert (code, report.splitlines()[-1]) == (0, "38 ok, 0 failed, 0 skipped"), report
    assert [line[:38].rstrip() for line in report.splitlines()[1:21]] == [c.name for c in CASES]


def test_a_wrong_object_is_named_with_its_path(tool: Tool) -> None:
    """Plain as well as within the events; what comes twice is said once. Exit 1."""
    tool.stand_in.spoil = lambda response: response.update(id=7)
    code, report = tool.run("--case", "basic text")
    assert code == 1
    assert "  response id: 7 is not of type 'string'\n      in basic text (plain)\n" in report
    assert "  response.created response.id: 7 is not of type 'string'\n" in report
    assert report.splitlines()[-1] == "0 ok, 2 failed, 0 skipped"


def test_an_ignored_place_is_listed_and_is_no_failure(tool: Tool) -> None:
    """Documents contradict each other, so a place can be left out; nothing is left out silently."""
    tool.stand_in.spoil = lambda response: response.update(id=7)
    code, report = tool.run("--case", "basic text", "--ignore", "*id")
    assert code == 0
    assert "\nignored:\n  response id: 7 is not of type 'string'\n" in report


def test_keepalives_are_exempt_by_name_and_others_when_allowed(tool: Tool) -> None:
    """An event type that the document does not know is a failure unless --allow names it."""

    def add(kind: str) -> Callable[[list[Value]], None]:
        def spoil(events: list[Value]) -> None:
            events.insert(1, {"type": kind})
            for at, event in enumerate(events):
                event["sequence_number"] = at

        return spoil

    tool.stand_in.spoil_events = add("keepalive")
    assert tool.run("--case", "basic text")[0] == 0
    tool.stand_in.spoil_events = add("response.new")
    code, report = tool.run("--case", "basic text")
    assert code == 1
    assert "event type 'response.new' is not in this schema" in report
    assert tool.run("--case", "basic text", "--allow", "response.new")[0] == 0


def test_the_order_of_events_is_compared_too(tool: Tool) -> None:
    """A stream whose every event is right may still be wrong."""
    tool.stand_in.spoil_events = lambda events: events.insert(2, dict(events[1]))
    code, report = tool.run("--case", "multi-turn")
    assert code == 1
    assert "  order: event 2 (response.output_item.added, output_index 0): the next" in report


def test_a_model_that_makes_no_call_is_skipped_but_a_script_is_obeyed(tool: Tool) -> None:
    """A small model may not call the tool; a scripted upstream that does not is a failure."""

    def silence(response: Value) -> None:
        response["output"] = []

    tool.stand_in.spoil = silence
    arguments = ["--schema", str(tool.schema), tool.stand_in.url, "sk-fb-x", "a-model"]
    out = io.StringIO()
    assert main([*arguments, "--case", "tool calling"], out) == 1  # streamed, its items are lost
    assert "skipped:\n  the model made no call\n      in tool calling (plain)\n" in out.getvalue()
    code, report = tool.run("--case", "tool calling")
    assert code == 1
    assert "  no call in the output: []\n" in report


def test_a_picture_that_is_refused_well_is_skipped(tmp_path: Path) -> None:
    """Not every model sees; the refusal itself must have the shape of an error."""

    class Blind(StandIn):
        def answer(self, method: str, path: str, body: Value) -> Any:
            if "input_image" in json.dumps(body):
                error = {"message": "no", "type": "bad", "param": "input", "code": None}
                return 400, {"error": error}
            return super().answer(method, path, body)

    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(document()), encoding="utf-8")
    with serving(Blind()) as stand_in:
        code, report = Tool(stand_in, schema).run("--case", "image input")
    assert code == 0
    assert "  the model takes no pictures: no\n" in report
    assert report.splitlines()[-1] == "0 ok, 0 failed, 2 skipped"


def test_a_refusal_without_an_error_object_is_a_failure(tool: Tool) -> None:
    """Its status alone is not enough."""
    code, report = tool.run("--case", "bad input", url=tool.stand_in.url + "/elsewhere")
    assert code == 1
    assert "expected 400, the answer was 404" in report


def test_a_gateway_that_is_not_there_is_a_failure_in_words(tool: Tool) -> None:
    """Each case says that it cannot be reached; nothing is raised."""
    code, report = tool.run("--case", "basic text", url="http://127.0.0.1:1/v1")
    assert code == 1
    assert "  the gateway cannot be reached: " in report


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[1", "cannot be read as YAML or JSON"),
        ("[1]", "is not an OpenAPI document"),
        ("{}", "does not say what POST /responses answers as application/json"),
    ],
)
def test_a_document_that_says_nothing_is_refused(
    tool: Tool, text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and a sentence, before anything is called."""
    tool.schema.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        tool.run()
    assert told in capsys.readouterr().err


def test_an_unknown_case_is_refused_with_the_names(
    tool: Tool, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a slip of the pen does not pass as success."""
    with pytest.raises(SystemExit, match="2"):
        tool.run("--case", "basic")
    assert "there is no case basic; there are 'basic text', " in capsys.readouterr().err
