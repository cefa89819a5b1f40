"""Anthropic: the Messages API, and a layer over it that speaks chat."""

from __future__ import annotations

from farebox.core.call import Headers
from farebox.core.channel import Channel
from farebox.vendors.base import Vendor

_VERSION_PATH = "/v1"


class Anthropic(Vendor):
    """Sources: Anthropic's documentation, "Errors", "Versions" and "OpenAI SDK compatibility",
    November 2026.

    Its chat layer takes one choice, and reads no schema.
    """

    name = "anthropic"
    title = "Anthropic"
    base_url = "https://api.anthropic.com"
    env_name = "ANTHROPIC_API_KEY"
    speaks = ("messages", "chat")
    json_schema = False
    max_choices = 1
    remembers = True

    def chat_url(self, channel: Channel) -> str:
        """Behind the version, which a base URL may leave out as those of its SDKs do."""
        return _versioned(super().chat_url(channel), "/chat/completions")

    def messages_url(self, channel: Channel) -> str:
        """The same."""
        return _versioned(super().messages_url(channel), "/messages")

    def credentials(self, key: bytes, dialect: str) -> Headers:
        """A key goes into a header of its own, but for the chat layer."""
        if dialect == "messages":
            return ((b"x-api-key", key),)
        return super().credentials(key, dialect)


def _versioned(url: str, path: str) -> str:
    return url.removesuffix(path).removesuffix(_VERSION_PATH) + _VERSION_PATH + path


VENDOR = Anthropic()
