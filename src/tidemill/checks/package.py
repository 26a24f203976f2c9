"""Checks the package of a model: its signature against the champion's, and its predictions in a fresh process."""

import numpy as np

from tidemill.checks.gate import Finding
from tidemill.checks.registry import gate_finding
from tidemill.core.check import Outcome
from tidemill.core.model import Signature
from tidemill.core.policy import Gate
from tidemill.core.probe import PackageProbe
from tidemill.data.arrays import Floats

_TOLERANCE = 1e-9

PACKAGE_FINDINGS = (
    gate_finding("package", "its predictions in a fresh process with those in the training process", "package"),
    gate_finding("lock", "the modules that its package imports with its lock", "package"),
    gate_finding("latency", "the time of a prediction with the limit of its policy", "package"),
    gate_finding("memory", "the memory of its package with the limit of its policy", "package"),
    gate_finding("size", "the size of its package with the limit of its policy", "package"),
)


def compare_signatures(deployed: Signature, candidate: Signature) -> list[str]:
    """Return the changes from the deployed signature that affect callers; integer to number is not a change.

    >>> from tidemill.core.model import Input
    >>> deployed = Signature(inputs=(Input(name="a", type="integer"),), task="regression")
    >>> compare_signatures(deployed, Signature(inputs=(Input(name="b", type="text"),), task="regression"))
    ["input 'a' is missing", "input 'b' (text) is new"]
    """
    before = {field.name: field.type for field in deployed.inputs}
    after = {field.name: field.type for field in candidate.inputs}
    changes = [f"input {name!r} is missing" for name in before if name not in after]
    changes += [f"input {name!r} ({kind}) is new" for name, kind in after.items() if name not in before]
    changes += [
        f"input {name!r} was {before[name]} and is {kind}"
        for name, kind in after.items()
        if name in before and before[name] != kind and (before[name], kind) != ("integer", "number")
    ]
    if deployed.task != candidate.task:
        changes.append(f"the task was {deployed.task} and is {candidate.task}")
    elif set(deployed.classes) != set(candidate.classes):
        changes.append(f"the classes were {', '.join(deployed.classes)} and are {', '.join(candidate.classes)}")
    return changes


def check_signature_change(deployed: Signature | None, candidate: Signature, policy: Gate) -> list[Finding]:
    """Check whether callers of the deployed model can call the candidate with the same requests."""
    if deployed is None:
        return []
    changes = compare_signatures(deployed, candidate)
    if not changes:
        return [Finding(about="signature", reason="the signature equals the champion's")]
    listed = "; ".join(changes)
    if policy.signature == "any":
        return [Finding(about="signature", reason=f"the signature changed, as the policy allows: {listed}")]
    reason = f'the signature changed: {listed} (to allow this, set signature = "any" under [gate])'
    return [Finding(about="signature", outcome="fail", reason=reason, evidence={"signature_changes": changes})]


def check_probe(probe: PackageProbe, expected: Floats, policy: Gate) -> list[Finding]:
    """Check that a package predicts the same in a fresh process as here, within the limits of its policy.

    `expected` contains this process's predictions of the same rows, of shape (rows,) or (rows, classes).
    """
    evidence = {
        "tried_in": probe.where,
        "package_mb": probe.size_mb,
        "package_memory_mb": probe.memory_mb,
        "package_latency_ms": probe.latency_ms,
    }
    if probe.missing:
        reason = f"the package imports {probe.missing!r}, which is not in its lock: add it to packages under [training]"
        return [Finding(about="lock", outcome="fail", reason=reason, evidence=evidence | {"missing": probe.missing})]
    if probe.error:
        reason = f"the package fails in a fresh process: {probe.error}"
        return [Finding(about="package", outcome="fail", reason=reason, evidence=evidence)]
    if not probe.same_twice:
        reason = "not deterministic: two predictions of the same rows differ in a fresh process"
        return [Finding(about="determinism", outcome="fail", reason=reason, evidence=evidence)]
    scores = np.asarray(probe.scores, dtype=float)
    if scores.shape != expected.shape or not np.allclose(scores, expected, rtol=0, atol=_TOLERANCE, equal_nan=True):
        reason = "the package does not return the same predictions in a fresh process as in the training process"
        return [Finding(about="package", outcome="fail", reason=reason, evidence=evidence)]
    limits = (
        _check_limit("latency", "predicts a row in", probe.latency_ms, policy.latency_ms, "ms"),
        _check_limit("memory", "uses", probe.memory_mb, policy.memory_mb, "MB of memory"),
        _check_limit("size", "has a size of", probe.size_mb, policy.size_mb, "MB"),
    )
    summary = probe.warning or f"the package returns the same predictions in {probe.where}"
    same = Finding(about="package", outcome="warn" if probe.warning else "pass", reason=summary, evidence=evidence)
    return [same, *(finding for finding in limits if finding)]


def _check_limit(about: str, verb: str, value: float, limit: float | None, unit: str) -> Finding | None:
    if limit is None:
        return None
    is_above = not value <= limit
    reason = f"the package {verb} {value:.3g} {unit}; the policy allows {limit:g}"
    outcome: Outcome = "fail" if is_above else "pass"
    return Finding(about=about, outcome=outcome, reason=reason, evidence={f"{about}_limit": limit})
