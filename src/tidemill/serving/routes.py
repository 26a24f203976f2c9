"""The routes of the service, each with the roles that may use it."""

from typing import NamedTuple

from tidemill.access.roles import DESCRIBE, LABEL, PREDICT, READ
from tidemill.core.token import Role


class ServiceRoute(NamedTuple):
    """A method and a path; `allowed` are the roles that may use it, None for everybody."""

    method: str
    path: str
    allowed: frozenset[Role] | None
    summary: str


ROUTES = (
    ServiceRoute("GET", "/health", None, "Whether the process runs"),
    ServiceRoute("GET", "/ready", None, "Whether every model can predict"),
    ServiceRoute("GET", "/openapi.json", None, "This document"),
    ServiceRoute("GET", "/metrics", READ, "Counters and latencies for Prometheus"),
    ServiceRoute("GET", "/predict/{model}", DESCRIBE, "The inputs and outputs of a model"),
    ServiceRoute("POST", "/predict/{model}", PREDICT, "Predict rows"),
    ServiceRoute("POST", "/labels/{model}", LABEL, "Store labels"),
)
PATHS = "; ".join(
    f"{method} {', '.join(route.path for route in ROUTES if route.method == method)}" for method in ("GET", "POST")
)
"""The methods and paths, for messages."""

_BY_VERB = {(route.method, route.path.split("/", 2)[1]): route for route in ROUTES}
_WITH_MODEL = frozenset(route.path.split("/", 2)[1] for route in ROUTES if "{" in route.path)


def find_route(method: str, path: str) -> ServiceRoute | None:
    """Return the route of a request; None if the path or the method is unknown."""
    if not path.startswith("/"):  # OPTIONS *
        return None
    _, verb, *rest = path.split("/", 2)
    if (verb in _WITH_MODEL) != bool(rest):
        return None
    return _BY_VERB.get(("GET" if method == "HEAD" else method, verb))


def list_methods(path: str) -> list[str]:
    """Return the methods that a path accepts; empty if there is no such path."""
    return [method for method in ("GET", "POST") if find_route(method, path)]
