"""Xiaomi MiMo: thinking is on or off, and its reasoning must come back with tool calls."""

from farebox.core.channel import Channel
from farebox.vendors import messages
from farebox.vendors.base import Vendor
from farebox.vendors.body import ADD_REASONING, FILL_CONTENT, Body, MessageEdit
from farebox.vendors.thinking import effort_to_switch, thinking_is_off


class MiMo(Vendor):
    """Source: MiMo's platform documentation, "Passing back reasoning_content", November 2026."""

    name = "mimo"
    title = "Xiaomi MiMo"
    base_url = "https://api.xiaomimimo.com/v1"
    env_name = "MIMO_API_KEY"
    speaks = ("chat", "responses")
    developer_role = False
    json_schema = False
    drop_of_responses = ("context_management", "client_metadata")
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
        """An effort becomes the switch that it has."""
        effort_to_switch(body)

    def edits(self, body: Body) -> tuple[MessageEdit, ...]:
        """Without thinking no reasoning is asked for."""
        return (FILL_CONTENT,) if thinking_is_off(body) else (FILL_CONTENT, ADD_REASONING)


VENDOR = MiMo()
