"""A figure of a process that serves no /metrics itself: written into the folder that the workers
share, so that whichever of them is asked shows it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.mmap_dict import MmapedDict

_FILE_BYTES = 64 * 1024  # as large as prometheus_client makes it


class OutsideGauge:
    """A gauge with one label. To be used by one thread, closed at the end."""

    def __init__(self, folder: Path, name: str, text: str, label: str) -> None:
        self._name, self._text, self._label = name, text, label
        # As prometheus_client names the files of gauges of which the highest counts.
        self._path = folder / f"gauge_max_{os.getpid()}.db"
        self._values: MmapedDict | None = None

    def set(self, values: Mapping[str, int]) -> None:
        """A value for each value of the label. Raises OSError."""
        # Not before there is a figure: it has a web server in it, and takes as long to load.
        from prometheus_client.mmap_dict import MmapedDict, mmap_key

        if self._values is None:
            # It is mapped into memory, and the system ends a process that writes to a page for
            # which a full disk has no room. A worker that reads it must not find it half made.
            draft = self._path.with_suffix(".draft")
            draft.write_bytes(bytes(_FILE_BYTES))
            draft.replace(self._path)
            self._values = MmapedDict(str(self._path))
        for label, value in values.items():
            key = mmap_key(self._name, self._name, [self._label], [label], self._text)
            self._values.write_value(key, float(value), 0.0)  # pyright: ignore[reportUnknownMemberType] (untyped)

    def forget(self) -> None:
        """Show nothing any more."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop writing; what was written is still shown."""
        if self._values is not None:
            self._values.close()
            self._values = None
