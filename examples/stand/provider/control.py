"""The control plane over HTTP: orders in, bill and request log out. No API key is asked; it listens on 127.0.0.1."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stand.provider.state import State


def control_routes(state: State) -> list[Route]:
    """POST /control, POST /reset, GET /bill, GET /requests?state=&atLeast=&timeoutSeconds=."""

    async def control(request: Request) -> Response:
        try:
            await state.control(await request.json())
        except (ValueError, TypeError, AttributeError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({})

    async def reset(_: Request) -> Response:
        await state.reset()
        return JSONResponse({})

    async def bill(_: Request) -> Response:
        return JSONResponse(state.bill.as_json())

    async def requests(request: Request) -> Response:
        query = request.query_params
        at_least, timeout = int(query.get("atLeast", 0)), float(query.get("timeoutSeconds", 0))
        return JSONResponse(await state.requests(query.get("state"), at_least, timeout))

    return [
        Route("/control", control, methods=["POST"]),
        Route("/reset", reset, methods=["POST"]),
        Route("/bill", bill),
        Route("/requests", requests),
    ]
