"""The parameters of the gate's checks name fields of the case."""

import inspect

from tidemill.checks.gate import Finding
from tidemill.recipes.gating import GATE_CHECKS, GateCase


def test_the_parameters_of_each_check_are_fields_of_the_case_with_the_same_types() -> None:
    fields = inspect.get_annotations(GateCase, eval_str=True)
    for check in GATE_CHECKS:
        signature = inspect.signature(check.run, eval_str=True)
        assert signature.return_annotation == list[Finding], check
        for name, parameter in signature.parameters.items():
            assert parameter.annotation == fields[name], (check, name)
