"""Chats as they were prepared before, for those that differ from them in nothing but messages.

Which vendors' chats may be remembered, and by what, base.py knows.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from farebox.core.call import Call, Headers
from farebox.core.channel import Channel
from farebox.core.known import Known
from farebox.core.ports import UpstreamRequest
from farebox.dialects.body import LARGE_BYTES
from farebox.vendors.body import Body


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A request ready to send, and what was changed for it, such as `max_tokens=renamed`."""

    request: UpstreamRequest
    adjusted: tuple[str, ...] = ()


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """A chat that was prepared, but for its messages."""

    channel: Channel  # kept, so that its id stays its own
    url: str
    headers: Headers
    before: bytes
    after: bytes
    adjusted: tuple[str, ...]

    def prepared(self, messages: msgspec.Raw) -> Prepared:
        """The same with these messages."""
        body = b"".join((self.before, messages, self.after))
        timeout_s = self.channel.first_byte_timeout_s
        return Prepared(
            UpstreamRequest(self.url, self.headers, body, "POST", timeout_s), self.adjusted
        )


_KNOWN = Known[Hashable, Remembered](most=1000, most_bytes=4 * 1024 * 1024)
find = _KNOWN.find
"""What is remembered under a key, if anything is."""


def remember(key: Hashable, channel: Channel, call: Call, body: Body, prepared: Prepared) -> None:
    """Perhaps have this found under the key from now on, if nothing of it hangs on messages.

    `body` is the one that `prepared` was made of.
    """
    if body.messages_read or body.fields.get("messages") is not call.fields["messages"]:
        return
    # What is large is prepared in another thread.
    if call.text_bytes > LARGE_BYTES or not _KNOWN.has_come(key):
        return
    before, after = body.around("messages")
    request = prepared.request
    value = Remembered(channel, request.url, request.headers, before, after, prepared.adjusted)
    _KNOWN.keep(key, value, len(before) + len(after))
