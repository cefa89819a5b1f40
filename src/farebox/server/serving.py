"""One request, from its head to its access line, whoever carries it; and which routes are hot.

Whatever fails before an answer began becomes an error in the route's form; after that, the
connection is closed without a proper end, so that no client takes a torn answer for a whole one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from farebox.core import clock
from farebox.errors import FareboxError, Internal
from farebox.server import chat, compact, counting, messages, responses, websocket
from farebox.server.reply import ClientGone, Reply, Request
from farebox.server.state import State
from farebox.telemetry import logs
from farebox.telemetry.record import Record, set_record

Handler = Callable[[State, Request, Reply], Awaitable[None]]

# Found by one look-up, with no framework between.
HOT: dict[tuple[str, str], Handler] = {
    ("POST", "/v1/chat/completions"): chat.complete,
    ("POST", "/v1/messages"): messages.create,
    ("POST", "/v1/messages/count_tokens"): counting.count_tokens,
    ("POST", "/v1/responses"): responses.create,
    ("POST", "/v1/responses/input_tokens"): counting.input_tokens,
    ("POST", "/v1/responses/compact"): compact.compact,
    ("GET", "/v1/responses"): websocket.refuse_plain,
    ("HEAD", "/v1/responses"): websocket.probe,
}


async def serve(
    state: State,
    request: Request,
    reply: Reply,
    handle: Handler,
    route: Callable[[], str] | None = None,
) -> None:
    """Have it handled, and note what became of it. `route` finds its pattern afterwards, if that is
    not its path.
    """
    started_s = clock.monotonic_s()
    record = Record(reply.request_id, request.method)
    set_record(record)
    metrics = state.metrics
    metrics.request_started()
    try:
        try:
            await handle(state, request, reply)
        except ClientGone:
            pass
        except Exception as error:  # noqa: BLE001 (the last line of defence: everything is answered)
            if not (reply.release() and isinstance(error, FareboxError)):
                await _answer_failure(reply, error, record)
        finally:
            duration_s = clock.monotonic_s() - started_s
            pattern = request.path if route is None else route()
            status = reply.status
            metrics.request_finished(pattern, status, duration_s)
            logs.access.write(record, pattern, status, duration_s)
    except BaseException as error:  # noqa: BLE001 (the worker ends, or a defect in what stands above)
        await reply.cut_off(error)
    finally:
        reply.end()


async def _answer_failure(reply: Reply, error: Exception, record: Record) -> None:
    if isinstance(error, FareboxError) and reply.status is None:
        record.error = error.code or error.type
        if error.fault == "us" and error.__cause__ is not None:
            logs.log.warning("refused", code=error.code, exc_info=error)
        await reply.error(error)
    else:
        logs.log.error("defect", exc_info=error)
        if reply.status is None:
            message = "The gateway failed; the request id finds the reason in its log."
            await reply.error(Internal(message))
