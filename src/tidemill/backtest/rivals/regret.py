"""The trigger by avoidable errors of Modyn: train when the loss above what was expected costs more than a training."""

from tidemill.backtest.policies import train_by_rule
from tidemill.backtest.rivals.costs import require_cost
from tidemill.core.backtest import Rule
from tidemill.core.policy import Policy


def build_regret_policy(policy: Policy, model: str) -> Policy:
    """Return a policy that trains when the regret since the last training exceeds the cost of a training.

    This is the trigger by the number of avoidable misclassifications of Modyn (Böther et al. 2024), with the loss of a
    prediction instead of its error, and with `cost_of_training` and `cost_of_error` of `[problem]` as its threshold.
    Each model is released without a gate or a canary.

    Raises
    ------
    InputError
        if `cost_of_training` is 0: the rule would train every day.
    """
    return train_by_rule(policy, Rule(name="regret", limit=require_cost(policy, model, "regret")))
