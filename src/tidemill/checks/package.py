"""Judges a package: its signature against the one that answers now, and what it did in a fresh process."""

import numpy as np

from tidemill.checks.gate import Finding
from tidemill.core.model import Signature
from tidemill.core.policy import Gate
from tidemill.core.probe import PackageProbe
from tidemill.data.arrays import Floats

_TOLERANCE = 1e-9


def compare_signatures(deployed: Signature, candidate: Signature) -> list[str]:
    """How a signature differs from the deployed one, for those who ask the model; whole numbers are numbers, too.

    >>> from tidemill.core.model import Input
    >>> was = Signature(inputs=(Input(name="a", type="integer"),), task="regression")
    >>> compare_signatures(was, Signature(inputs=(Input(name="b", type="text"),), task="regression"))
    ["input 'a' is gone", "input 'b' (text) is new"]
    """
    was = {one.name: one.type for one in deployed.inputs}
    now = {one.name: one.type for one in candidate.inputs}
    told = [f"input {name!r} is gone" for name in was if name not in now]
    told += [f"input {name!r} ({kind}) is new" for name, kind in now.items() if name not in was]
    told += [
        f"input {name!r} was {was[name]} and is {kind}"
        for name, kind in now.items()
        if name in was and was[name] != kind and (was[name], kind) != ("integer", "number")
    ]
    if deployed.task != candidate.task:
        told.append(f"it does {candidate.task}, no longer {deployed.task}")
    elif set(deployed.classes) != set(candidate.classes):
        told.append(f"its classes are {', '.join(candidate.classes)}, no longer {', '.join(deployed.classes)}")
    return told


def check_signature_change(deployed: Signature | None, candidate: Signature, policy: Gate) -> list[Finding]:
    """Whether those who ask the deployed model can ask this one."""
    if deployed is None:
        return []
    told = compare_signatures(deployed, candidate)
    if not told:
        return [Finding(about="signature", reason="its signature is that of the champion")]
    said = "; ".join(told)
    if policy.signature == "any":
        return [Finding(about="signature", reason=f"its signature changed, as its policy allows: {said}")]
    reason = f'its signature changed: {said} (where that is meant: signature = "any" under [gate])'
    return [Finding(about="signature", outcome="fail", reason=reason, evidence={"signature_changes": told})]


def check_probe(trial: PackageProbe, expected: Floats, policy: Gate) -> list[Finding]:
    """Whether a package answered in a fresh process as it does here, within the limits of its policy.

    `expected` are the answers of this process to the same rows, of shape (rows,) or (rows, classes).
    """
    evidence = {
        "tried_in": trial.where,
        "package_mb": trial.size_mb,
        "package_memory_mb": trial.memory_mb,
        "package_latency_ms": trial.latency_ms,
    }
    if trial.missing:
        reason = f"its package imports {trial.missing!r}, which its lock does not name (see packages under [training])"
        return [Finding(about="lock", outcome="fail", reason=reason, evidence=evidence | {"missing": trial.missing})]
    if trial.error:
        reason = f"the package does not answer in a fresh process: {trial.error}"
        return [Finding(about="package", outcome="fail", reason=reason, evidence=evidence)]
    if not trial.same_twice:
        reason = "not deterministic: asked twice in a fresh process, its answers to the same rows differ"
        return [Finding(about="determinism", outcome="fail", reason=reason, evidence=evidence)]
    scores = np.asarray(trial.scores, dtype=float)
    if scores.shape != expected.shape or not np.allclose(scores, expected, rtol=0, atol=_TOLERANCE, equal_nan=True):
        reason = "the package does not give the same answers in a fresh process as where it was made"
        return [Finding(about="package", outcome="fail", reason=reason, evidence=evidence)]
    found = [_within("latency", "answers a row in", trial.latency_ms, policy.latency_ms, "ms")]
    found += [_within("memory", "takes", trial.memory_mb, policy.memory_mb, "MB of memory")]
    found += [_within("size", "is", trial.size_mb, policy.size_mb, "MB large")]
    said = trial.warning or f"the package gives the same answers in {trial.where}"
    kept = Finding(about="package", outcome="warn" if trial.warning else "pass", reason=said, evidence=evidence)
    return [kept, *(one for one in found if one)]


def _within(about: str, does: str, value: float, limit: float | None, unit: str) -> Finding | None:
    if limit is None:
        return None
    beyond = not value <= limit
    reason = f"the package {does} {value:.3g} {unit}, and its policy allows {limit:g}"
    return Finding(about=about, outcome="fail" if beyond else "pass", reason=reason, evidence={f"{about}_limit": limit})
