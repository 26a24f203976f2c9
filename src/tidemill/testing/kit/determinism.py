"""Tests of determinism: two trainings with the same rows and seed give the same artifacts."""

from tidemill.flow.session import find_side_effects
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.training import SampleTraining

__tracebackhide__ = True


def require_equal_trainings(first: SampleTraining, second: SampleTraining) -> None:
    """Require that each step returned the same value in two trainings; the first one that differs is named."""
    for before, after in zip(first.calls, second.calls, strict=False):
        if before.node != after.node:
            fail(
                f"two trainings ran different steps: {before.node!r} and {after.node!r}",
                "decide inside a step, by its inputs",
            )
        if find_side_effects(before.step) or before.digest == after.digest:
            continue
        fail(
            f"step {before.node!r} is not deterministic: a second training with equal inputs has other values",
            "give random generators a seed, such as policy.training.seed, and sort rows after a group_by or unique",
        )
