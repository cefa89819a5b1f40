"""/healthz, /readyz, /metrics: for the machines that look after the gateway. They name no user."""

from __future__ import annotations

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from farebox.server.answers import json_answer
from farebox.server.state import State
from farebox.telemetry import logs

_CHECK_LIMIT_S = 2.0  # probes commonly give up after a few seconds and learn nothing then


async def healthz(_state: State) -> Response:
    """200 as long as the process answers at all."""
    return json_answer({"ok": True})


async def readyz(state: State) -> Response:
    """200 when calls should be sent here, else 503 with the reason."""
    reason = await _not_ready(state)
    if reason is None:
        return json_answer({"ready": True})
    return json_answer({"ready": False, "reason": reason}, 503)


async def _not_ready(state: State) -> str | None:
    if state.ending:
        return "draining: this process is ending"
    if not state.directory.loaded:
        return "starting: accounts and keys are not loaded yet"
    try:
        async with asyncio.timeout(_CHECK_LIMIT_S):
            await asyncio.to_thread(state.reads.check)
    except Exception as error:  # noqa: BLE001 (whatever the store raises, it cannot be read)
        logs.log.warning("store_unreadable", error=type(error).__name__, detail=str(error))
        return "the store cannot be read"
    return None


async def metrics(state: State) -> Response:
    """All series in Prometheus' text format."""
    data = await asyncio.to_thread(state.metrics.exposition)
    return Response(data, headers={"content-type": CONTENT_TYPE_LATEST})
