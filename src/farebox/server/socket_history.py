"""What WebSockets remember of their responses, in memory: nothing of it is ever written.

A client whose response was forgotten is told so, and sends its whole conversation again; so both
limits may be hit without harm. Which items a response has is websocket.py's business.
"""

from __future__ import annotations

from collections import OrderedDict

Items = tuple[bytes, ...]
"""Items of a conversation, each as JSON: the input of a response and behind it the output."""

_SOCKETS = 8  # as many may be full at once; more of a worker's memory is not theirs to take
_ENTRY_BYTES = 256  # what an entry takes without any item
_ITEM_BYTES = 64  # what an item takes beside its text


class Histories:
    """All that the sockets of one worker remember. Belongs to one event loop."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: of one socket."""
        self.limit_bytes = limit_bytes
        self._used: OrderedDict[History, None] = OrderedDict()  # the latest is the last
        self.size_bytes = 0

    def open(self) -> History:
        """The history of a new socket. Close it with the socket."""
        return History(self)

    def note(self, history: History, grown_bytes: int) -> None:
        """A history was used and has grown by so much; those that were not for longest give way."""
        self.size_bytes += grown_bytes
        self._used[history] = None
        self._used.move_to_end(history)
        while self.size_bytes > self.limit_bytes * _SOCKETS:
            next(iter(self._used)).clear()

    def drop(self, history: History, size_bytes: int) -> None:
        """A history has become empty."""
        self.size_bytes -= size_bytes
        self._used.pop(history, None)


class History:
    """One socket's: conversations by the id of the response that they ended with."""

    def __init__(self, among: Histories) -> None:
        self._among = among
        self._entries: OrderedDict[str, tuple[Items, int]] = OrderedDict()
        self._size_bytes = 0

    def find(self, response_id: str) -> Items | None:
        """The conversation up to this response; None if it is not known, or not any more."""
        entry = self._entries.get(response_id)
        return None if entry is None else entry[0]

    def remember(self, response_id: str, items: Items) -> None:
        """Keep this one, and drop the oldest beyond the limit: it may be this very one."""
        # What two conversations share is counted twice. So fewer are kept than could be, but
        # clients only ever go on from the last.
        size_bytes = _ENTRY_BYTES + sum(len(item) + _ITEM_BYTES for item in items)
        before_bytes = self._size_bytes
        _, replaced_bytes = self._entries.pop(response_id, ((), 0))
        self._size_bytes -= replaced_bytes
        self._entries[response_id] = (items, size_bytes)
        self._size_bytes += size_bytes
        while self._size_bytes > self._among.limit_bytes:
            _, (_, dropped_bytes) = self._entries.popitem(last=False)
            self._size_bytes -= dropped_bytes
        self._among.note(self, self._size_bytes - before_bytes)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        size_bytes, self._size_bytes = self._size_bytes, 0
        self._among.drop(self, size_bytes)
