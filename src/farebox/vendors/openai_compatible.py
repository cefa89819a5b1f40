"""Any server that speaks OpenAI's chat completions; what is odd about one, its channel says."""

from farebox.vendors.base import MORE_THAN_HELD, Vendor


class OpenAICompatible(Vendor):
    """vLLM, SGLang, Ollama, Groq, Together, OpenRouter, Moonshot …: the common denominator.

    `max_tokens` and the role `system` are what all of them take.
    """

    name = "openai_compatible"
    title = "OpenAI-compatible server"
    needs_key = False
    max_tokens_field = "max_tokens"
    developer_role = False
    drop = MORE_THAN_HELD
    remembers = True


VENDOR = OpenAICompatible()
