"""`reasoning_effort` for vendors that have `thinking: {type}`. A caller's own `thinking` wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from farebox.vendors.body import Body

_EFFORT = "reasoning_effort"


def thinking_is_off(body: Body) -> bool:
    """Whether the request turns thinking off."""
    thinking = body.value("thinking")
    return (
        isinstance(thinking, dict) and cast("dict[str, object]", thinking).get("type") == "disabled"
    )


def off_by_effort(body: Body) -> bool:
    """Effort `none` as thinking turned off; whether that was asked for."""
    if body.value(_EFFORT) != "none":
        return False
    switch(body, "disabled")
    return True


def map_effort(body: Body, efforts: Mapping[str, str]) -> None:
    """Name an effort as the vendor does; one that is not in the table stays."""
    effort = body.value(_EFFORT)
    if isinstance(effort, str) and effort in efforts:
        body.put(_EFFORT, efforts[effort])
        body.note(_EFFORT, efforts[effort])


def fit_effort(body: Body, fitting: Callable[[str], str | None]) -> None:
    """Put the effort that fits in place of the one that is asked for; None: leave it out."""
    effort = body.value(_EFFORT)
    fitted = fitting(effort) if isinstance(effort, str) else effort
    if fitted is None:
        body.drop(_EFFORT)
    elif fitted != effort:
        body.put(_EFFORT, fitted)
        body.note(_EFFORT, str(fitted))


def effort_to_switch(body: Body, *, can_be_off: bool = True) -> None:
    """Any effort as thinking on, `none` as off, or as nothing where it cannot be off."""
    effort = body.value(_EFFORT)
    if effort is None:
        body.fields.pop(_EFFORT, None)
    elif effort == "none" and not can_be_off:
        body.drop(_EFFORT)
    else:
        switch(body, "disabled" if effort == "none" else "enabled")


def switch(body: Body, state: str) -> None:
    """Put `thinking` in the place of the effort, unless the caller has set it already."""
    if body.has("thinking"):
        body.drop(_EFFORT)
        return
    body.remove(_EFFORT)
    body.put("thinking", {"type": state})
    body.note(_EFFORT, f"thinking:{state}")
