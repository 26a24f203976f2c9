"""Tests of steps: each returns what it declares, writes no other file, and fits the steps after it."""

from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from tidemill.clock import VirtualClock
from tidemill.core.pipeline import Node, refs
from tidemill.errors import TidemillError
from tidemill.flow.plan import plan
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.sample import Sample
from tidemill.testing.kit.training import Call, SampleTraining

__tracebackhide__ = True
_UNIONS = (Union, UnionType)


def require_declared_artifacts(training: SampleTraining) -> None:
    """Require that each step returned values of the types in its annotation, as many as it declares, and no file."""
    for call in training.calls:
        _require_values(call)
        if call.files:
            fail(
                f"step {call.node!r} wrote {call.files[0]!r}, an artifact that it does not declare",
                "return the value instead, with its type in the annotation: a run stores and versions it",
            )


def _require_values(call: Call) -> None:
    step, returned = call.step, call.returned
    declared = step.outputs
    values = returned if len(declared) > 1 else (returned,)
    if len(declared) > 1 and (not isinstance(returned, tuple) or len(returned) != len(declared)):
        count = len(returned) if isinstance(returned, tuple) else 1
        fail(
            f"step {call.node!r} declares {len(declared)} artifacts and returned {count}",
            "change its annotation or its return statement",
        )
    for output, value in zip(declared, values, strict=True):
        hint = step.output_type(output)
        if not _is_instance(value, hint):
            fail(
                f"step {call.node!r} returned {_describe(value)}, an artifact that it does not declare: "
                f"its annotation says {_show(hint)}",
                "change its annotation or its return statement",
            )


def require_fitting_steps(sample: Sample, pipeline: str) -> None:
    """Require that the type of each output fits the parameter of the step that gets it."""
    project = sample.project
    if pipeline not in project.code.pipelines:
        return
    try:
        graph = plan(
            project.code.pipeline(pipeline), {"model": sample.policy.name}, project, VirtualClock(sample.until)
        )
    except TidemillError as error:
        fail(error.problem, error.cure)
    for node in graph.nodes.values():
        for name, value in node.inputs.items():
            hint = node.step.hints.get(name, Any)
            for ref in refs(value):
                _require_fit(graph.nodes[ref.node], ref.output, node, name, hint, whole=ref is value)


def _require_fit(before: Node, output: str, node: Node, name: str, hint: Any, *, whole: bool) -> None:
    given = before.step.output_type(output)
    if before.mapped_parameter or node.mapped_parameter == name or not whole:
        return
    if not _can_be(given, hint):
        fail(
            f"step {before.name!r} returns {_show(given)}, which does not fit {name!r} of step {node.name!r}: "
            f"it needs {_show(hint)}",
            "change one of the two steps, or convert the value in a step between them",
        )


def require_finished(training: SampleTraining) -> None:
    """Require that the training on the sample finished: its steps work together."""
    if training.run.state != "done":
        error = training.error
        reason = error.problem if error is not None else training.run.error
        fail(
            f"pipeline {training.run.pipeline!r} does not train on the sample: {reason}",
            error.cure if error is not None and error.cure else "correct this step",
        )


def _is_instance(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type; types that cannot be checked accept every value."""
    if hint is Any or hint is object:
        return True
    if hint is None or hint is NoneType:
        return value is None
    origin = get_origin(hint)
    if origin in _UNIONS:
        return any(_is_instance(value, member) for member in get_args(hint))
    if origin in (list, tuple, set, frozenset) and isinstance(value, origin):
        members = [member for member in get_args(hint) if member is not Ellipsis]
        return len(members) != 1 or all(_is_instance(member, members[0]) for member in value)
    if origin is dict and isinstance(value, dict):
        arguments = get_args(hint)
        return len(arguments) != 2 or all(_is_instance(member, arguments[1]) for member in value.values())
    kind = origin or hint
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return True
    if kind is int and isinstance(value, bool):
        return False
    try:
        return isinstance(value, kind)
    except TypeError:
        return True


def _can_be(given: Any, needed: Any) -> bool:
    """Return whether some value of the type `given` is of the type `needed`."""
    if Any in (given, needed) or object in (given, needed) or given == needed:
        return True
    if get_origin(given) in _UNIONS:
        return any(_can_be(member, needed) for member in get_args(given))
    if get_origin(needed) in _UNIONS:
        return any(_can_be(given, member) for member in get_args(needed))
    first, second = (get_origin(hint) or hint for hint in (given, needed))
    if not isinstance(first, type) or not isinstance(second, type):
        return True
    return issubclass(first, second) or issubclass(second, first) or (first is int and second is float)


def _show(hint: Any) -> str:
    return getattr(hint, "__name__", None) if isinstance(hint, type) and not get_args(hint) else str(hint)  # type: ignore[return-value]


def _describe(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(member).__name__ for member in value)}"
    return "None" if value is None else f"a {type(value).__name__}"
