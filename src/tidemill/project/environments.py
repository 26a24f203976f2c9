"""Finds faults in the environments of a policy: unknown names, circles, rules that can never be met."""

from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address

from tidemill.core.environment import CONTROL, TARGETS, Environment
from tidemill.core.policy import Policy
from tidemill.errors import ConfigurationError
from tidemill.plugin import list_names
from tidemill.project.freeze import check_window, read_zone

Fault = tuple[str, str, tuple[str, ...]]
"""The problem, its cure, and the path of the value."""


def find_environment_faults(policy: Policy) -> Iterator[Fault]:
    """Yield the faults of the environments, in their order."""
    for name, settings in policy.environments.items():
        path = ("environments", name)
        if name == CONTROL:
            yield f"an environment cannot be named {CONTROL!r}", "rename it: builds are made and deployed there", path
        if settings.after and settings.after not in policy.environments:
            known = ", ".join(other for other in policy.environments if other != name) or "none"
            yield f"there is no environment {settings.after!r}", f"use one of: {known}", (*path, "after")
        elif _is_circle(policy, name):
            yield (
                f"the environments {name!r} and {settings.after!r} wait for each other",
                "change one",
                (*path, "after"),
            )
        yield from _check_rules(settings, path)
        yield from _check_times(settings, path)
        yield from _check_address(settings, path)
        targets = (*TARGETS, *list_names("targets"))
        if settings.target not in targets:
            yield f"there is no target {settings.target!r}", f"use one of: {', '.join(targets)}", (*path, "target")
    ports = [(settings.port, name) for name, settings in policy.environments.items() if settings.port]
    for index, (port, name) in enumerate(ports):
        if port in [other for other, _ in ports[:index]]:
            cure = "give each environment a port of its own"
            yield f"two environments use port {port}", cure, ("environments", name, "port")


def _check_rules(settings: Environment, path: tuple[str, ...]) -> Iterator[Fault]:
    needs = {
        "runs": bool(settings.runs),
        "soak": settings.soak not in ("0s", ""),
        "thresholds": bool(settings.thresholds),
        "valid_data": settings.valid_data,
    }
    for key in [key for key, is_set in needs.items() if is_set and not settings.after]:
        yield (
            f"{key} has no effect without `after`",
            'name the environment before: after = "preproduction"',
            (*path, key),
        )
    if settings.approvers and len(settings.approvers) < settings.approvals:
        problem = f"{settings.approvals} approvals are needed, and there are {len(settings.approvers)} approvers"
        yield problem, "name more approvers, or lower `approvals`", (*path, "approvals")


def _check_address(settings: Environment, path: tuple[str, ...]) -> Iterator[Fault]:
    where = ".".join(path)
    has_tls = bool(settings.tls_cert or settings.tls_key)
    if bool(settings.tls_cert) != bool(settings.tls_key):
        missing, present = ("tls_key", "tls_cert") if settings.tls_cert else ("tls_cert", "tls_key")
        cure = "a certificate and its private key are used together"
        yield f"{where}.{missing} is missing", cure, (*path, present)
    if settings.target == "kubernetes" and (has_tls or settings.behind_proxy or settings.host != Environment().host):
        key = "tls_cert" if has_tls else "behind_proxy" if settings.behind_proxy else "host"
        yield f"{where}.{key} has no effect on Kubernetes", "end TLS at its ingress, and remove it here", (*path, key)
    try:
        is_loopback = settings.host == "localhost" or ip_address(settings.host).is_loopback
    except ValueError:
        yield f"{where}.host: {settings.host!r} is not an IP address", "use 127.0.0.1, 0.0.0.0 or ::", (*path, "host")
        return
    if not is_loopback and not has_tls and not settings.behind_proxy:
        problem = f"{where}.host: others could read the tokens of requests to {settings.host} without TLS"
        yield problem, "set tls_cert and tls_key, or behind_proxy if a proxy in front ends TLS", (*path, "host")


def _check_times(settings: Environment, path: tuple[str, ...]) -> Iterator[Fault]:
    checks: list[tuple[str, Callable[[], object]]] = [("zone", partial(read_zone, settings.zone))]
    checks += [("freeze", partial(check_window, window)) for window in settings.freeze]
    for key, check in checks:
        try:
            check()
        except ConfigurationError as error:
            yield f"{'.'.join(path)}.{key}: {error.problem}", error.cure, (*path, key)


def _is_circle(policy: Policy, name: str) -> bool:
    seen, current = {name}, policy.environments[name].after
    while current in policy.environments:
        if current in seen:
            return True
        seen.add(current)
        current = policy.environments[current].after
    return False
