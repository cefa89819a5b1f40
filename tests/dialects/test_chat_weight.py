"""How heavy a chat is: bytes of text, and tokens by table for what bytes say nothing of."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farebox.dialects.chat_weight import FILE_TOKENS, IMAGE_TOKENS, Weight, weigh, weigh_input
from farebox.errors import BadRequest

LINK = "https://img.example/cat.png"
DATA = "data:image/png;base64," + "iVBORw0KGgo=" * 100


def _body(messages: Any) -> bytes:
    return json.dumps({"model": "m", "messages": messages}).encode()


def _weigh(*parts: Any, before: bytes = b"", after: bytes = b"") -> tuple[Weight, int]:
    """The weight of one user message of these parts, and the body's bytes."""
    body = _body([{"role": "user", "content": list(parts)}]).replace(before, after)
    messages = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["messages"]
    return weigh(body, messages), len(body)


def _image(url: object) -> dict[str, object]:
    return {"type": "image_url", "image_url": url}


TEXT = {"type": "text", "text": "What is this?"}


def test_text_weighs_its_bytes() -> None:
    """All of the body: tools and names are input too."""
    weight, size = _weigh(TEXT)
    assert weight == Weight(size)


@pytest.mark.parametrize("url", [LINK, DATA, {"url": LINK}, {"url": DATA, "detail": "low"}])
def test_an_image_weighs_its_table_entry_and_not_its_address(url: Any) -> None:
    """Whether it is in the body or elsewhere."""
    weight, size = _weigh(TEXT, _image(url))
    address = url if isinstance(url, str) else url["url"]
    assert weight == Weight(size - len(address), IMAGE_TOKENS)


def test_images_add_up() -> None:
    """In any message of any role."""
    images = [{"role": role, "content": [_image(LINK), TEXT]} for role in ("user", "tool")]
    body = _body([{"role": "system", "content": "image_url"}, *images])
    messages = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["messages"]
    assert weigh(body, messages) == Weight(len(body) - 2 * len(LINK), 2 * IMAGE_TOKENS)


@pytest.mark.parametrize(
    ("file", "tokens"),
    [
        ({"file_data": "data:application/pdf;base64,JVBERi0="}, FILE_TOKENS),
        ({"file_id": "file-1"}, FILE_TOKENS),
        ({"file_id": "file-1", "file_data": ""}, FILE_TOKENS),
        ({"file_id": "file-1", "file_data": None}, FILE_TOKENS),
        ("file-1", FILE_TOKENS),
    ],
)
def test_a_file_weighs_the_most_there_may_be(file: Any, tokens: int) -> None:
    """Also one in the body: a PDF of two kilobytes has room for a hundred pages."""
    weight, size = _weigh({"type": "file", "file": file})
    assert weight == Weight(size, tokens)


@pytest.mark.parametrize("escaped", [b'"file_data"', b'"file\\u005fdata"'])
def test_a_file_weighs_the_same_as_an_item_of_a_response(escaped: bytes) -> None:
    """Whether a user sends it or a tool gives it."""
    part = {"type": "input_file", "filename": "a.pdf", "file_data": "JVBERi0="}
    for item in ({"role": "user", "content": [part]}, {"call_id": "c", "output": [part]}):
        items = json.dumps([item]).encode().replace(b'"file_data"', escaped)
        assert weigh_input(len(items), msgspec.Raw(items)) == Weight(len(items), FILE_TOKENS)


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "text", "text": "x", "file": None},
        {"type": 5, "image_url": None},
        {"nothing": True},
        "text",
        7,
        None,
        ["x"],
    ],
)
def test_odd_parts_do_not_hide_an_image(odd: Any) -> None:
    """What some vendor may pass over must not make the call look light."""
    weight, size = _weigh(odd, _image({"url": LINK}))
    assert weight == Weight(size - len(LINK), IMAGE_TOKENS)


@pytest.mark.parametrize(
    "escaped", [b'"image\\u005furl"', b'"\\u0069mage_url"', b'"image_ur\\u006C"']
)
def test_escapes_do_not_hide_an_image(escaped: bytes) -> None:
    """A key with escapes is the same key."""
    weight, size = _weigh(_image({"url": LINK}), before=b'"image_url"', after=escaped)
    assert weight == Weight(size - len(LINK), IMAGE_TOKENS)


@pytest.mark.parametrize("url", [5, {"url": 5}, {"url": None}, {}, []])
def test_an_image_of_unknown_shape_is_an_image(url: object) -> None:
    """It weighs its table entry on top of its bytes."""
    weight, size = _weigh(_image(url))
    assert weight == Weight(size, IMAGE_TOKENS)


def test_escaped_text_weighs_its_bytes() -> None:
    """Chinese as escapes is no image."""
    body = _body([{"role": "user", "content": "你好 café A\u001b"}])
    assert b"\\u4f60" in body
    messages = msgspec.json.decode(body, type=dict[str, msgspec.Raw])["messages"]
    assert weigh(body, messages) == Weight(len(body))


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_messages_that_cannot_be_read_cannot_be_priced(number: str) -> None:
    """A number out of range passes as raw JSON, but nobody can look behind it."""
    messages = f'[{{"x":{number},"content":[{{"image_url":"{LINK}"}}]}}]'.encode()
    with pytest.raises(BadRequest) as caught:
        weigh(messages, msgspec.Raw(messages))
    assert caught.value.message.startswith("'messages' cannot be read: Number out of range")
    assert caught.value.param == "messages"


anything = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from([LINK, "image_url", "file"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "image_url", "file", "url", "file_data"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@given(st.lists(anything, max_size=4))
def test_no_message_has_a_weight_below_nothing(messages: list[Any]) -> None:
    """Whatever its shape, and never more than its bytes beside the tables."""
    body = _body(messages)
    weight = weigh(body, msgspec.json.decode(body, type=dict[str, msgspec.Raw])["messages"])
    assert 0 <= weight.text_bytes <= len(body)
    assert weight.table_tokens >= 0


@pytest.mark.parametrize(
    "part",
    [
        {"type": "video_url", "video_url": {"url": LINK}},
        {"type": "video_url", "video_url": LINK},
        {"type": "file_url", "file_url": {"url": LINK}},
        {"type": "audio_url", "audio_url": {"url": LINK}},
        {"type": "input_audio", "input_audio": {"data": LINK, "format": "wav"}},
        {"type": "pdf_url", "pdf_url": [LINK]},
        {"type": "file", "file": {"file_data": LINK}},
    ],
)
def test_what_lies_elsewhere_weighs_the_most_there_may_be(part: Any) -> None:
    """A film behind an address of thirty bytes may be a hundred thousand tokens."""
    weight, size = _weigh(TEXT, part)
    assert weight == Weight(size, FILE_TOKENS)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": LINK},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    ],
)
def test_what_is_in_the_body_weighs_its_bytes(part: Any) -> None:
    """An address that is only talked about is text."""
    weight, size = _weigh(TEXT, part)
    assert weight == Weight(size)
