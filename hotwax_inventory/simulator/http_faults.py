"""Faults of an HTTP answer: what stands in place of the right one."""

import asyncio
from collections.abc import Awaitable, Callable

from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response

from hotwax_inventory.simulator.faults import Fault
from hotwax_inventory.simulator.http_server import NoAnswer

VERSION_HEADER = "X-Shopify-API-Version"
UNAUTHORIZED = {"errors": "[API] Invalid API key or access token (unrecognized login or wrong password)"}


async def misbehave(fault: Fault | None, respond: Callable[[], Awaitable[Response]]) -> Response:
    """What the fault makes of the right answer; `respond` does the work and is not called where nothing is done."""
    kind = fault.kind if fault else None
    if fault is None or kind == "throttled":
        return await respond()
    if kind == "reset_before":
        return NoAnswer()
    if kind == "http_429":
        return JSONResponse({"errors": "Exceeded API call limit"}, 429, {"Retry-After": str(int(fault.number(1)))})
    if kind in ("http_500", "http_502", "http_503"):
        return PlainTextResponse(f"{kind.removeprefix('http_')} on demand\n", int(kind.removeprefix("http_")))
    if kind == "unauthorized":
        return JSONResponse(UNAUTHORIZED, 401)
    if kind == "html":
        return HTMLResponse("<!doctype html><title>Shop</title><p>This page stands where an API answer should.</p>")
    if kind == "delay":
        await asyncio.sleep(fault.number(1))
        return await respond()
    response = await respond()
    if kind == "reset_after":
        return NoAnswer()
    if kind == "other_version":
        response.headers[VERSION_HEADER] = str(fault.value or "2026-01")
        return response
    if kind == "truncated_json":
        return _half(response)
    raise ValueError(f"Fault {kind} is none of an HTTP answer.")


def _half(response: Response) -> Response:
    if isinstance(response, FileResponse):
        with open(response.path, "rb") as file:  # noqa: PTH123 - a path of any kind
            body = file.read()
    else:
        body = bytes(response.body)
    return Response(body[: len(body) // 2], response.status_code, media_type=response.media_type)
