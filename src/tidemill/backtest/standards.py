"""The standard policies of `--against`, by their names."""

from tidemill.backtest.compare import CompareProgress
from tidemill.backtest.comparison import Period
from tidemill.backtest.policies import (
    PolicyPlan,
    build_calendar_policy,
    build_check_policy,
    build_static_policy,
    build_weekly_policy,
)
from tidemill.backtest.rivals.cara import build_cara_policy
from tidemill.backtest.rivals.cost import build_cost_policy
from tidemill.backtest.rivals.regret import build_regret_policy
from tidemill.compose.session import open_history
from tidemill.core.policy import Policy
from tidemill.data.frame import TIME
from tidemill.errors import InputError
from tidemill.project.project import Project


def build_standard(
    name: str, project: Project, policy: Policy, model: str, period: Period, report_progress: CompareProgress
) -> PolicyPlan:
    """Return a standard policy.

    Raises
    ------
    InputError
        if the policy of the project lacks what it needs, or if there is no standard policy with this name.
    """
    chosen = project.model(model)
    match name:
        case "static":
            return build_static_policy(policy)
        case "weekly":
            return build_weekly_policy(policy, period.begin)
        case "calendar":
            return lambda first: build_calendar_policy(policy, period, first.trainings)
        case "drift" | "performance":
            return build_check_policy(policy, "drift" if name == "drift" else "performance")
        case "cost":
            times = open_history(project).source_history(chosen.problem.source)[TIME]
            return lambda first: build_cost_policy(policy, period, times, first.trainings)
        case "regret":
            return build_regret_policy(policy, chosen.name)
        case "cara":
            return build_cara_policy(project, policy, chosen.name, period, report_progress)
        case _:
            raise InputError(f"there is no standard policy {name!r}", "see `tidemill backtest --help`")
