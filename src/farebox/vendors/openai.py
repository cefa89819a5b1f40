"""OpenAI itself: the defaults of every vendor. Its prices and models are in the built-in list."""

import re
from typing import Final

from farebox.vendors.base import Vendor
from farebox.vendors.body import DROP_REASONING

_REASONS = re.compile(r"(?:ft:)?(?:o\d|gpt-oss|codex|gpt-(?P<major>[5-9])(?:\.(?P<minor>\d+))?)")
_KNOWS_NONE: Final = (5, 1)  # the first family that can be told not to think
_KNOWS_MORE: Final = (5, 2)  # the first whose every model takes more than `high`
_MORE = ("xhigh", "max")


class OpenAI(Vendor):
    """Sources: OpenAI's API reference, "Chat Completions"; guide "Reasoning", November 2026."""

    name = "openai"
    title = "OpenAI"
    base_url = "https://api.openai.com/v1"
    env_name = "OPENAI_API_KEY"
    speaks = ("chat", "responses")
    drop = ("top_k",)
    message_edits = (DROP_REASONING,)
    remembers = True

    def takes_effort(self, model: str) -> bool:
        """Models that reason do, and all others refuse it."""
        return _REASONS.match(model) is not None and "-chat" not in model

    def fit_effort(self, model: str, effort: str) -> str | None:
        """Older models know no `none`, and nothing above `high`."""
        found = _REASONS.match(model)
        family = tuple(int(part or 0) for part in found.groups()) if found else ()
        if effort == "none":
            return effort if family >= _KNOWS_NONE else None
        if effort in _MORE:
            return "xhigh" if family >= _KNOWS_MORE else "high"
        return effort


VENDOR = OpenAI()
