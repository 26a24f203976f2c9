"""The checks of the gate name what they need, and each finding has a check that is registered."""

import inspect

from tidemill.checks.gate import Finding
from tidemill.recipes.gating import GATE_CHECKS, Case


def test_each_check_takes_fields_of_the_case_by_their_types() -> None:
    fields = inspect.get_annotations(Case, eval_str=True)
    for check in GATE_CHECKS:
        signature = inspect.signature(check, eval_str=True)
        assert signature.return_annotation == list[Finding], check
        for name, needed in signature.parameters.items():
            assert needed.annotation == fields[name], (check, name)
