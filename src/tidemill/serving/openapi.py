"""The OpenAPI document of the service: its paths, and the statuses that each of them can have."""

from functools import cache
from typing import Any

from tidemill.serving.routes import ROUTES

STATUSES = {
    200: "The request was processed.",
    400: "The request is not valid HTTP or JSON, has another form, or is for a host name that is not accepted.",
    401: "The token is missing, unknown, expired or revoked.",
    403: "The token does not allow the request, or it comes from a web page of another origin.",
    404: "There is no such model or path.",
    405: "The path does not accept the method.",
    408: "The request did not arrive in time.",
    413: "The request is too large.",
    414: "The address is too long.",
    415: "The request is compressed.",
    422: "A row or a label does not fit the model.",
    431: "The headers are too large, or too many.",
    500: "The model raised an error.",
    503: "The model is not loaded, its process was ended, or the service is busy or stopping.",
    504: "The model did not answer within its limit of time.",
    507: "The disk of the service is full.",
}
"""Every status of the service, with its meaning."""

_ALWAYS = (400, 405, 408, 414, 431, 503)
_OF_MODELS = (401, 403, 404, 413, 415, 422, 500, 504, 507)


@cache
def describe_routes() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the service."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        extra = _OF_MODELS if "{" in route.path else (401, 403, 500) if route.allowed else (500,)
        responses = {str(status): {"description": STATUSES[status]} for status in sorted({200, *_ALWAYS, *extra})}
        operation: dict[str, Any] = {"summary": route.summary, "responses": responses}
        if "{model}" in route.path:
            operation["parameters"] = [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]
        if route.method == "POST":
            content = {"application/json": {"schema": {"type": "object"}}}
            operation["requestBody"] = {"required": True, "content": content}
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidemill prediction service", "version": "1"},
        "paths": paths,
    }
