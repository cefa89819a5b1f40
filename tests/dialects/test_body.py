"""A body's top level: raw values by key, one value a key, and a sentence for everything else."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.body import decode_fields, read_count, read_field
from farebox.errors import BadRequest, TooLarge

keys = st.text(st.sampled_from('abmodel"\\/\n é你😀'), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([1, 12, 1.5]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
blanks = st.sampled_from(["", "", " ", "\n", "\t", "\r\n  "])


@st.composite
def key_texts(draw: st.DrawFn, key: str) -> str:
    """A key as JSON, each character written out or escaped."""
    if draw(st.booleans()):
        return json.dumps(key, ensure_ascii=draw(st.booleans()))
    units = key.encode("utf-16-be").hex()
    return '"' + "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)) + '"'


@st.composite
def objects(draw: st.DrawFn) -> tuple[str, list[tuple[str, str]]]:
    """A JSON object as somebody may write it, and its pairs of key and value text."""
    pairs = draw(st.lists(st.tuples(keys, values), max_size=6))
    if pairs and draw(st.booleans()):
        pairs.append((draw(st.sampled_from(pairs))[0], draw(values)))
    written: list[tuple[str, str]] = []
    members: list[str] = []
    for key, value in pairs:
        separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
        text = json.dumps(value, separators=separators, ensure_ascii=draw(st.booleans()))
        written.append((key, text))
        key_text = draw(key_texts(key))
        members.append(f"{draw(blanks)}{key_text}{draw(blanks)}:{draw(blanks)}{text}{draw(blanks)}")
    body = draw(blanks) + "{" + (",".join(members) or draw(blanks)) + "}" + draw(blanks)
    return body, written


@given(objects())
def test_each_value_is_kept_as_it_was_written_and_no_key_stands_twice(
    written: tuple[str, list[tuple[str, str]]],
) -> None:
    """Against Python's own reader, which shows every pair; keys are compared with their escapes
    resolved.
    """
    body, pairs = written
    shown: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    assert [key for key, _ in shown] == [key for key, _ in pairs]
    names = [key for key, _ in pairs]
    if len(set(names)) == len(names):
        fields = decode_fields(body.encode())
        assert {key: bytes(raw).decode() for key, raw in fields.items()} == dict(pairs)
        return
    with pytest.raises(BadRequest) as caught:
        decode_fields(body.encode())
    assert names.count(str(caught.value.param)) > 1
    assert "stands twice in the body" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        '{"n":1,"n":1}',
        '{"n":1,"n":1,"a":2}',
        '{"n":1,"n":2}',
        '{"n":12,"n":1}',
        '{"n":1,"n":12}',
        '{"n":1.5,"n":1}',
        '{"n":1e3,"n":1}',
        '{"n":"1","n":1}',
        '{"n":[1],"n":[1,2]}',
        '{"n":1,"a":2,"\\u006e":1}',
        '{ "n" : 1 , "a" : {"n":1,"n":2} , "n" : null }',
        '{"a":1,"n":{"x":[1,{}]},"b":2,"n":3,"c":4}',
    ],
)
def test_a_key_that_stands_twice_is_refused(body: str) -> None:
    """Parsers differ on which of the two counts, so neither does."""
    with pytest.raises(BadRequest) as caught:
        decode_fields(body.encode())
    assert (caught.value.message, caught.value.param) == (
        "The key 'n' stands twice in the body. Send it once.",
        "n",
    )


def test_keys_within_are_the_vendors_business() -> None:
    """Only the top level is read here; what is below passes as it came."""
    fields = decode_fields(b'{"a":{"n":1,"n":2}}')
    assert bytes(fields["a"]) == b'{"n":1,"n":2}'


_DEEP = b'{"messages":' + b"[" * 2000 + b"]" * 2000 + b"}"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "The body is not valid JSON: Input data was truncated."),
        (b"hello", "The body is not valid JSON: JSON is malformed: invalid character (byte 0)."),
        (b'{"a":1', "The body is not valid JSON: Input data was truncated."),
        (b'{"a":1}}', "The body is not valid JSON: JSON is malformed: trailing characters"),
        (b'{"a":01}', "The body is not valid JSON: JSON is malformed: invalid number"),
        (b'{"a":[1,]}', "The body is not valid JSON: JSON is malformed: trailing comma in array"),
        (b'{"a":"\x01"}', "The body is not valid JSON: JSON is malformed: invalid character"),
        (b'{"a":NaN}', "The body is not valid JSON: JSON is malformed: invalid character"),
        (b'\xef\xbb\xbf{"a":1}', "The body is not valid JSON: JSON is malformed"),
        (b'{"a":"\xff"}', "The body is not valid UTF-8 (byte 6). Send JSON encoded as UTF-8."),
        (b'{"a":"\xed\xa0\xbd"}', "The body is not valid UTF-8 (byte 6). Send JSON encoded as"),
        (b"[]", 'The body must be a JSON object, such as {"model": …}.'),
        (b"null", 'The body must be a JSON object, such as {"model": …}.'),
        (b'"text"', 'The body must be a JSON object, such as {"model": …}.'),
        (_DEEP, "The body is nested too deeply. Keep it below 1000 levels."),
    ],
)
def test_what_is_no_json_object_is_refused_with_a_sentence(body: bytes, sentence: str) -> None:
    """400, with the place of what is wrong where there is one."""
    with pytest.raises(BadRequest) as caught:
        decode_fields(body)
    assert caught.value.message.startswith(sentence)
    assert (caught.value.status, caught.value.param) == (400, None)


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]":,\\u0aé 1-e.tnf'), max_size=40))
def test_no_body_does_more_than_be_refused(body: bytes | str) -> None:
    """Whatever the bytes."""
    try:
        fields = decode_fields(body if isinstance(body, bytes) else body.encode())
    except BadRequest:
        return
    assert all(isinstance(key, str) for key in fields)


@pytest.mark.parametrize("letter", ["a", "\\n"])
def test_a_key_of_megabytes_costs_little_memory(letter: str) -> None:
    """A few times its own size, and an error does not repeat all of it."""
    key = letter * (2_000_000 // len(letter))
    tracemalloc.start()
    try:
        with pytest.raises(BadRequest) as caught:
            decode_fields(f'{{ "{key}": 1, "{key}": 2}}'.encode())
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert len(caught.value.message) < 300
    assert len(str(caught.value.param)) == 100


def _fields(**texts: str) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(text.encode()) for name, text in texts.items()}


def test_a_field_is_read_as_its_type() -> None:
    """Absent and null are the same: None."""
    fields = _fields(stream="true", model='"m"', n="null", modalities='["text"]')
    assert read_field(fields, "stream", bool, "true or false") is True
    assert read_field(fields, "model", str, "a model's id") == "m"
    assert read_field(fields, "modalities", list[str], "a list of strings") == ["text"]
    assert read_field(fields, "n", int, "a whole number") is None
    assert read_field(fields, "other", int, "a whole number") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('"yes"', "'stream' must be true or false, not a string."),
        ("1", "'stream' must be true or false, not 1."),
        ("1e999", "'stream' must be true or false, not 1e999."),
        ("[true]", "'stream' must be true or false, not a list."),
        ("{}", "'stream' must be true or false, not an object."),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(text: str, sentence: str) -> None:
    """The sentence names the field, what it must be and what it is."""
    with pytest.raises(BadRequest) as caught:
        read_field(_fields(stream=text), "stream", bool, "true or false")
    assert caught.value.message == sentence
    assert (caught.value.param, caught.value.code) == ("stream", "invalid_value")


def test_of_a_list_the_wrong_place_is_named() -> None:
    """The list itself is what it must be."""
    with pytest.raises(BadRequest) as caught:
        read_field(_fields(modalities='["text", 3]'), "modalities", list[str], "a list of texts")
    assert caught.value.message == "'modalities' must be a list of texts; look at modalities[1]."


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("128", 128), ("null", None)])
def test_a_count_lies_between_one_and_its_limit(text: str, count: int | None) -> None:
    """Both ends belong to it."""
    assert read_count(_fields(n=text), "n", 128) == count


@pytest.mark.parametrize("text", ["0", "-1", "129", "9" * 40])
def test_a_count_outside_its_limit_is_refused(text: str) -> None:
    """However large."""
    with pytest.raises(BadRequest) as caught:
        read_count(_fields(n=text), "n", 128)
    error = caught.value
    assert error.message == f"'n' must be between 1 and 128, not {text}."
    assert (error.param, error.code) == ("n", "invalid_value")


@pytest.mark.parametrize("text", ["1.0", "1.5", '"1"', "true", "[1]", "1e2", "1e999"])
def test_a_count_that_is_no_whole_number_is_refused(text: str) -> None:
    """A float too, even if nothing stands behind its point."""
    with pytest.raises(BadRequest) as caught:
        read_count(_fields(n=text), "n", 128)
    assert caught.value.message.startswith("'n' must be a whole number, not ")
    assert (caught.value.param, caught.value.code) == ("n", "invalid_value")


def test_more_keys_than_any_protocol_has_are_refused() -> None:
    """Each costs time, and a body has room for millions."""
    assert len(decode_fields(json.dumps({f"k{n}": n for n in range(1000)}).encode())) == 1000
    with pytest.raises(BadRequest, match="1001 keys"):
        decode_fields(json.dumps({f"k{n}": n for n in range(1001)}).encode())


def test_more_values_than_any_model_could_take_are_refused() -> None:
    """A body of nothing but small values would become gigabytes where it is read closely."""
    many = b'{"messages":[{}%b]}'
    assert len(decode_fields(many % (b",1" * 2_500_000))) == 1
    with pytest.raises(TooLarge, match="more than 2500000 values"):
        decode_fields(many % (b",1" * 2_500_001))
    assert len(decode_fields(b'{"messages":"' + b"a" * 20_000_000 + b'"}')) == 1
