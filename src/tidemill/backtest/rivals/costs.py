"""The cost of a training for the rules that weigh it against errors."""

from tidemill.core.policy import Policy
from tidemill.errors import InputError


def require_cost(policy: Policy, model: str, rule: str) -> float:
    """Return the cost of a training, in predictions that are as wrong as those without a model.

    Raises
    ------
    InputError
        if it is 0.
    """
    problem = policy.models[model].problem
    if not problem.cost_of_training:
        raise InputError(
            f"the rule {rule!r} weighs errors against the cost of a training, which is 0",
            f"set cost_of_training in [problem], or omit --against {rule}",
        )
    return problem.cost_of_training / (problem.cost_of_error or 1.0)
