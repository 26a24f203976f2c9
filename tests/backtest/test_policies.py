"""Standard policies: what a policy that trains by one check keeps of the project's policy."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.projects import make_project, tidemill
from tidemill.backtest.policies import build_check_policy
from tidemill.core.policy import Policy, Watch


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return make_project(tmp_path_factory.mktemp("policies") / "shop").policy


def test_a_policy_by_drift_trains_whenever_drift_fails_and_has_no_gate_and_no_canary(policy: Policy) -> None:
    built = build_check_policy(policy, "drift")
    model = built.models["shop"]
    assert [(value.value, value.action) for value in model.watch.values] == [("drift", "retrain")]
    assert (model.gate.enabled, model.rollout.canary) == (False, False)
    assert [trigger.pipeline for trigger in built.triggers] == ["watching", "training"]
    assert built.triggers[0].cron == next(t.cron for t in policy.triggers if t.pipeline == "watching")


def test_a_policy_by_performance_watches_the_metrics_and_measures_its_releases(policy: Policy) -> None:
    model = build_check_policy(policy, "performance").models["shop"]
    assert [value.value for value in model.watch.values] == ["log_loss"]
    assert model.gate.measure, "a metric is compared with its value at release"


def test_a_check_that_the_policy_does_not_watch_is_an_error_with_a_cure(tmp_path: Path, policy: Policy) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    file = folder / "tidemill.toml"
    file.write_text(file.read_text().replace('value = "drift"', 'value = "silence"'))
    printed = tidemill(folder, "backtest", "--against", "drift", code=2).stderr
    assert "does not watch drift" in printed
    assert "omit --against drift" in printed
    model = policy.models["shop"]
    unwatched = replace(policy, models={"shop": replace(model, watch=Watch())})
    with pytest.raises(Exception, match="does not watch performance"):
        build_check_policy(unwatched, "performance")
