"""What the reader of documents finds wrong, and how it says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.schema import Document, Violation
from tests.conformance.standin import Value, document


def _found(response: Value, *, allowed: tuple[str, ...] = (), **schemas: Value) -> list[Violation]:
    contents = document()
    contents["components"]["schemas"].update(schemas)
    whole = {"id": "resp_1", "output": [], "usage": None}
    return Document(contents, allowed).check_response(whole | response)


def test_a_right_response_has_nothing_wrong() -> None:
    """`nullable`, which is OpenAPI 3.0's, is understood."""
    assert _found({}) == []
    assert _found({"usage": {"total_tokens": 1}}) == []


@pytest.mark.parametrize(
    ("response", "path", "message"),
    [
        ({"id": 1}, "id", "1 is not of type 'string'"),
        ({"usage": 1}, "usage", "1 is not of type object or null"),
        ({"usage": {}}, "usage", "'total_tokens' is a required property"),
        ({"output": [{"type": "new"}]}, "output.0.type", "type 'new' is not in this schema"),
        (
            {"output": [{"type": "message", "id": 1, "content": []}]},
            "output.0.id",
            "1 is not of type 'string'",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(response: Value, path: str, message: str) -> None:
    """Of several branches only the one that was meant speaks."""
    assert _found(response) == [Violation(path, message)]


def test_an_item_may_be_of_an_allowed_type() -> None:
    """What --allow names need not be in the document."""
    assert _found({"output": [{"type": "new"}]}, allowed=("new",)) == []


def test_branches_that_overlap_are_no_fault_of_the_answer() -> None:
    """oneOf with two fitting branches passes."""
    overlapping: Value = {"oneOf": [{"type": "object"}, {"required": ["type"]}]}
    assert _found({"output": [{"type": "x"}]}, Item=overlapping) == []


def test_a_branch_is_found_through_references_and_allof() -> None:
    """The type of a branch may be said in a part of it."""
    item: Value = {"oneOf": [{"allOf": [{"$ref": "#/components/schemas/Call"}]}, {"type": "null"}]}
    wrong = {"type": "function_call", "id": "fc_1"}
    assert _found({"output": [wrong]}, Item=item) == [
        Violation("output.0", "'arguments' is a required property")
    ]
    assert _found({"output": [None]}, Item=item) == []


def test_a_reference_to_nothing_is_not_silently_right() -> None:
    """A broken document does not pass for one that allows everything."""
    with pytest.raises(Exception, match="Gone"):
        _found({"output": [{"type": "x"}]}, Item={"$ref": "#/components/schemas/Gone"})


def test_long_values_are_quoted_in_part() -> None:
    """A message does not hold a whole response."""
    [violation] = _found({"id": {"x": "y" * 1000}})
    assert len(violation.message) < 210
    assert violation.message.endswith("' is not of type 'string'".removeprefix("'"))


def test_events_are_known_by_their_type() -> None:
    """Each is compared with its own schema; one without a type is not in any document."""
    read = Document(document())
    good: dict[str, Any] = {"sequence_number": 0, "item_id": "x"}
    assert read.check_event({"type": "response.output_text.delta", **good}) == []
    [violation] = read.check_event({"type": "response.output_text.delta", **good, "item_id": 1})
    assert violation == Violation("item_id", "1 is not of type 'string'")
    assert read.check_event({}) == [
        Violation("type", "event type None is not in this schema"),
    ]


def test_a_route_that_the_document_does_not_know_is_not_compared() -> None:
    """There is nothing to compare with."""
    assert Document(document()).check_answer("GET", "/responses/{response_id}", {}) == []


def test_a_refusal_is_compared_where_the_document_has_one() -> None:
    """By the name ErrorResponse."""
    assert Document(document()).check_error({}) == [Violation("", "'error' is a required property")]
