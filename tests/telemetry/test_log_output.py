"""The log when what it is written to fails."""

import asyncio
import errno
import io
import json
import logging

import pytest
import structlog

from farebox.telemetry import logs
from farebox.telemetry.record import Record


class Disk(io.BytesIO):
    """A file, on a disk that may be full."""

    full = False

    def write(self, data):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.fixture
def disk():
    """What the test's log is written to; what was configured before is put back."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield Disk()
    root.handlers, root.level = handlers, level
    structlog.configure(**before)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_log_that_cannot_be_written_ends_nothing(disk, encoding):
    """A full disk, or a reader that has gone, takes lines only: no call, and not its loop."""
    output = io.TextIOWrapper(disk, encoding, line_buffering=True)
    logs.configure("info", logs.Redactor(), output)

    async def turns():
        for disk.full in (False, True, False):
            logs.log.info("other")
            logs.access.write(Record("req_1", "POST"), "/v1/models", 200, 0.001)
            await asyncio.sleep(0.001)

    asyncio.run(turns())
    told = [json.loads(line)["event"] for line in disk.getvalue().splitlines()]
    assert told == ["other", "request"] * 2
