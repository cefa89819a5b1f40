"""OpenAI itself: the defaults of every vendor. Its prices and models are in the built-in list."""

from farebox.vendors.base import Vendor


class OpenAI(Vendor):
    """Source: OpenAI's API reference, "Chat Completions", November 2026."""

    name = "openai"
    title = "OpenAI"
    base_url = "https://api.openai.com/v1"
    env_name = "OPENAI_API_KEY"
    speaks = ("chat", "responses")


VENDOR = OpenAI()
