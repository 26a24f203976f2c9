"""Forms: the fields of a request, and whether it prefers JSON."""

import asyncio
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request

from tidemill.errors import InputError

_MAX_BYTES = 65_536
_MAX_FIELDS = 20
_SECONDS = 30.0
_KEY = "tidemill.form"


def wants_json(request: Request) -> bool:
    """Return whether the reply to a request must be JSON."""
    return (
        request.query_params.get("format") == "json"
        or "application/json" in request.headers.get("accept", "")
        or _is_json(request)
    )


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a request's body: a form, or a JSON object of texts. The body is read once.

    Raises
    ------
    InputError
        if the body is too large, or is neither.
    """
    if _KEY not in request.scope:
        request.scope[_KEY] = _parse(request, await _read_body(request))
    form: dict[str, str] = request.scope[_KEY]
    return form


async def _read_body(request: Request) -> bytes:
    parts = bytearray()
    try:
        async with asyncio.timeout(_SECONDS):
            async for part in request.stream():
                parts += part
                if len(parts) > _MAX_BYTES:
                    raise InputError(f"the form is larger than {_MAX_BYTES:,} bytes", "send shorter texts")
    except (ClientDisconnect, TimeoutError):
        raise InputError("the form did not arrive completely", "send it again") from None
    return bytes(parts)


def _parse(request: Request, body: bytes) -> dict[str, str]:
    try:
        if _is_json(request):
            return msgspec.json.decode(body or b"{}", type=dict[str, str])
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS))
    except (msgspec.MsgspecError, ValueError) as error:
        raise InputError(f"the form cannot be read: {error}", "send a form, or a JSON object of texts") from None


def _is_json(request: Request) -> Any:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json"
