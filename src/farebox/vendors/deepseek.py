"""DeepSeek: thinking is on by default, and its reasoning must come back with tool calls."""

from farebox.core.channel import Channel
from farebox.vendors import messages, responses
from farebox.vendors.base import Vendor
from farebox.vendors.body import ADD_REASONING, FILL_CONTENT, Body, MessageEdit
from farebox.vendors.thinking import map_effort, off_by_effort, thinking_is_off

_EFFORTS = {"minimal": "low", "medium": "high", "xhigh": "high", "ultra": "max"}


class DeepSeek(Vendor):
    """Source: DeepSeek's API documentation, "Thinking Mode" and "Error Codes", November 2026."""

    name = "deepseek"
    title = "DeepSeek"
    base_url = "https://api.deepseek.com"
    env_name = "DEEPSEEK_API_KEY"
    max_tokens_field = "max_tokens"
    developer_role = False
    json_schema = False
    failing_finish_reasons = frozenset({"insufficient_system_resource"})
    shows_all_output = True
    remembers = True

    def messages_url(self, channel: Channel) -> str:
        """Beside its other APIs, under a path of its own."""
        return messages.beside(super().messages_url(channel))

    def takes_effort(self, model: str) -> bool:
        """All of its models think, or can be told not to."""
        del model
        return True

    def adapt(self, body: Body) -> None:
        """Efforts are low, high and max; none turns thinking off."""
        if not off_by_effort(body):
            map_effort(body, _EFFORTS)

    def adapt_responses(self, body: Body) -> None:
        """The same efforts; that its Responses API is stateless every request respects."""
        responses.map_effort(body, _EFFORTS)

    def edits(self, body: Body) -> tuple[MessageEdit, ...]:
        """Without thinking no reasoning is asked for."""
        return (FILL_CONTENT,) if thinking_is_off(body) else (FILL_CONTENT, ADD_REASONING)


VENDOR = DeepSeek()
