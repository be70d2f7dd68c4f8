"""What all pages share: JSON answers, errors without traces, cross-origin reading, the token."""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from machine_lifecycle.errors import LifecycleError

__all__ = ["Page", "answer_errors", "answer_json", "json_text", "needs_token", "read_only"]

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer_json(value: Any, status: int = 200) -> web.Response:
    """A JSON answer that no cache keeps."""
    return web.Response(
        text=json_text(value),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def json_text(value: Any) -> str:
    """A value as JSON that can be encoded: half a character, which others' JSON may hold, is shown
    as ``?``.
    """
    return json.dumps(value, ensure_ascii=False).encode(errors="replace").decode()


def read_only(page: Page) -> Page:
    """Let pages of other origins read this one: a dashboard in a browser does."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await page(request)
        if not response.prepared:  # the stream of events has sent its headers already, with this
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Allow-Methods"] = "GET, OPTIONS"
        return response

    return answer


def needs_token(token: str, page: Page) -> Page:
    """Answer 401 unless the request carries the token. Without a token nobody may."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if not token:
            return _unauthorized(
                "this page is off: set MACHINE_HEALTH_TOKEN to a secret of your own to use it"
            )
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        matches = hmac.compare_digest(given.strip().encode(), token.encode())
        if scheme.lower() != "bearer" or not matches:
            return _unauthorized(
                "send 'Authorization: Bearer TOKEN' with the value of MACHINE_HEALTH_TOKEN"
            )
        return await page(request)

    return answer


def _unauthorized(reason: str) -> web.Response:
    response = answer_json({"error": reason}, 401)
    response.headers["WWW-Authenticate"] = 'Bearer realm="machine"'
    return response


def answer_errors(log: logging.Logger) -> Middleware:
    """Turn what a page raises into ``{"error": …}``. Traces go to the log, never to the reader."""

    @web.middleware
    async def answer(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as refused:
            response = answer_json({"error": f"{request.method} is not allowed here"}, 405)
            response.headers["Allow"] = ", ".join(sorted(refused.allowed_methods))
            return response
        except web.HTTPNotFound:
            return answer_json({"error": f"no such page: {request.path}"}, 404)
        except web.HTTPException as refused:
            return answer_json({"error": refused.reason}, refused.status)
        except LifecycleError as error:
            return answer_json({"error": error.summary, **error.to_wire()}, 500)
        except Exception:
            log.exception("a health page failed: %s %s", request.method, request.path)
            return answer_json({"error": "this page failed; the machine's log says why"}, 500)

    return answer
