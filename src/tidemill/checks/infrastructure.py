"""Checks a target environment before its requests go to a new build: its packages, memory, accelerator and answers."""

import math
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.checks.gate import Finding
from tidemill.checks.registry import deployment_finding
from tidemill.core.build import Build
from tidemill.core.environment import Environment, Load
from tidemill.core.machine import MachineFacts
from tidemill.host.python import normalize_name

INFRASTRUCTURE, SERVICE = "infrastructure", "service"
INFRASTRUCTURE_FINDINGS = tuple(
    deployment_finding(name, about, INFRASTRUCTURE)
    for name, about in (
        ("environment", "what a process finds on the target"),
        ("python", "the Python of the target with the tested one and the least version"),
        ("packages", "the packages of the target with those of the lock"),
        ("memory", "the free memory of the target with what is required"),
        ("accelerator", "the accelerators of the target with what is required"),
    )
)
SERVICE_FINDINGS = tuple(
    deployment_finding(name, about, SERVICE)
    for name, about in (
        ("health", "the new service with one that answers"),
        ("answers", "its predictions of the sample rows of each model with those before"),
        ("load", "the times of requests at a fixed rate"),
        ("errors", "the share of requests that fail with the limit"),
        ("p50", "the median time of a request with the limit"),
        ("p99", "the 99th percentile of the times with the limit"),
    )
)
_TOLERANCE = 1e-6
_SHOWN = 3


class Answers(Struct, frozen=True, kw_only=True):
    """The predictions of a model for its sample rows: those expected, and those of the new service.

    A prediction is a class or a number, with the probabilities of its classes, if it has any. `problem` is why there
    are none, such as a package whose bytes have changed.
    """

    model: str
    release: str
    expected: list[dict[str, Any]] = []
    received: list[dict[str, Any]] = []
    problem: str = ""


class LoadResult(Struct, frozen=True, kw_only=True):
    """The result of a load test: the requests that were sent, those that failed, and times from the planned arrival."""

    requests: int
    failed: int
    rate: float
    p50_ms: float
    p99_ms: float
    first_failure: str = ""


def check_machine(build: Build, settings: Environment, facts: MachineFacts) -> list[Finding]:
    """Check the interpreter, the packages, the memory and the accelerator of an environment."""
    if facts.error:
        return [_fail("python", facts.error)]
    findings = [
        Finding(
            about="environment",
            reason=f"Python {facts.python} with {len(facts.packages)} packages, {facts.memory_mb:,.0f} MB of memory",
            evidence={
                "python": facts.python,
                "memory_mb": round(facts.memory_mb),
                "accelerators": list(facts.accelerators),
            },
        )
    ]
    if build.python and facts.python != build.python:
        findings.append(
            _fail("python", f"it was tested with Python {build.python}, not {facts.python}, which is there")
        )
    if settings.python and _version(facts.python) < _version(settings.python):
        findings.append(_fail("python", f"Python {facts.python} is older than {settings.python}, which is required"))
    present = {normalize_name(name): version for name, version in facts.packages.items()}
    tested = {normalize_name(name): version for name, version in build.packages.items()}
    absent = [name for name in tested if name not in present]
    other = [
        f"{name} {present[name]} in place of {version}"
        for name, version in tested.items()
        if name in present and present[name] != version
    ]
    if absent:
        findings.append(_fail("packages", f"packages are missing: {_list(absent)}"))
    if other:
        findings.append(_fail("packages", f"packages have other versions than the tested ones: {_list(other)}"))
    if settings.memory_mb is not None and facts.memory_mb < settings.memory_mb:
        reason = f"{settings.memory_mb:,} MB of memory are required, and {facts.memory_mb:,.0f} MB are free"
        findings.append(_fail("memory", f"{reason} (the limit {facts.memory_limit})"))
    if settings.accelerator and not facts.accelerators:
        findings.append(_fail("accelerator", "an accelerator is required, and none is there"))
    return findings


def check_answers(answers: Sequence[Answers]) -> list[Finding]:
    """Check that the new service predicts the sample rows of each model as it did before."""
    findings = []
    for answer in answers:
        if answer.problem:
            findings.append(_fail("answers", f"{answer.release}: {answer.problem}"))
            continue
        different = [
            index
            for index, (expected, received) in enumerate(zip(answer.expected, answer.received, strict=False))
            if not _is_same(expected, received)
        ]
        if len(answer.expected) != len(answer.received):
            reason = f"{len(answer.received)} predictions for {len(answer.expected)} rows"
            findings.append(_fail("answers", f"{answer.release} returned {reason}"))
        elif different:
            first = different[0]
            reason = (
                f"{answer.release} predicts {len(different)} of {len(answer.expected)} sample rows differently, "
                f"such as row {first + 1}: {_show(answer.received[first])} in place of {_show(answer.expected[first])}"
            )
            findings.append(_fail("answers", reason))
        else:
            reason = f"{answer.release} predicts its {len(answer.expected)} sample rows as before"
            findings.append(Finding(about="answers", reason=reason))
    return findings


def check_load(settings: Load, result: LoadResult) -> list[Finding]:
    """Check the times and failures of a load test."""
    evidence = {
        "requests": result.requests,
        "failed": result.failed,
        "rate": round(result.rate, 1),
        "p50_ms": round(result.p50_ms, 3),
        "p99_ms": round(result.p99_ms, 3),
    }
    measured = f"{result.rate:,.0f} requests a second, p50 {result.p50_ms:.1f} ms, p99 {result.p99_ms:.1f} ms"
    findings = [Finding(about="load", reason=measured, evidence=evidence)]
    share = result.failed / result.requests if result.requests else 1.0
    if share > settings.errors:
        failure = f"{result.failed} of {result.requests} requests failed: {result.first_failure}"
        findings.append(_fail("errors", failure))
    for name, value, limit in (("p50", result.p50_ms, settings.p50_ms), ("p99", result.p99_ms, settings.p99_ms)):
        if limit is not None and not value <= limit:
            findings.append(
                _fail(
                    name,
                    f"{name} is {value:.1f} ms at {settings.rate:g} requests a second, and the "
                    f"policy allows {limit:g} ms",
                )
            )
    return findings


def _is_same(expected: dict[str, Any], received: dict[str, Any]) -> bool:
    before, now = expected.get("probabilities"), received.get("probabilities")
    if (before is None) != (now is None):
        return False
    if before is not None and now is not None:
        return before.keys() == now.keys() and all(_is_close(before[name], now[name]) for name in before)
    return _is_close(expected["value"], received["value"])


def _is_close(expected: Any, received: Any) -> bool:
    if isinstance(expected, int | float) and isinstance(received, int | float):
        return math.isclose(expected, received, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    return bool(expected == received)


def _show(prediction: dict[str, Any]) -> str:
    table = prediction.get("probabilities")
    value = prediction["value"]
    return f"{value} ({', '.join(f'{name} {share:.4f}' for name, share in table.items())})" if table else str(value)


def _list(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(sorted(names)[:_SHOWN]) + rest


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())


def _fail(about: str, reason: str) -> Finding:
    return Finding(about=about, outcome="fail", reason=reason)
