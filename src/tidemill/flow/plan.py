"""Plans a run: fills the parameters of the pipeline, traces its graph, and rejects errors before a step runs."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, time
from typing import Any

import msgspec

from tidemill.blobs.artifacts import explain_refusal
from tidemill.clock import Clock
from tidemill.core.ci import Ci
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import Graph, Node, Pipeline, Ref, contains_refs
from tidemill.core.policy import ModelPolicy
from tidemill.core.upgrade import Upgrade
from tidemill.errors import ConfigurationError, InputError, NotFound
from tidemill.flow.session import is_resource
from tidemill.flow.stated import Stated
from tidemill.project.project import Project

_SIMPLE = (bool, int, float, str, bytes)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def plan(pipeline: Pipeline, params: Mapping[str, Any], project: Project, clock: Clock) -> Graph:
    """Return the graph of a pipeline for these parameters.

    Text is parsed as the type of the parameter, a time without a zone as UTC; a `Stated` value keeps its own type, if
    the parameter can have it. Missing parameters come from the project:
    a `ModelPolicy` (of the model that the parameter `model` names, or of the only model), its `FeatureSet`, the
    settings of `Ci` and `Upgrade`, and the current time for a `datetime`.

    Raises
    ------
    InputError
        If a parameter is unknown, missing or of the wrong type.
    ConfigurationError
        If a step misses an input, or an input cannot be part of a cache key.
    """
    hints = pipeline.hints
    policies = [name for name in pipeline.parameters if hints.get(name) is ModelPolicy]
    remaining = dict(params)
    model = (
        _read_model_name(remaining.pop("model", ""))
        if "model" in remaining and "model" not in pipeline.parameters
        else ""
    )
    filled: dict[str, Any] = {}
    for name, parameter in pipeline.parameters.items():
        hint = hints.get(name, Any)
        if name in remaining:
            filled[name] = _parse(pipeline.name, name, remaining.pop(name), hint, project)
        elif hint is ModelPolicy:
            filled[name] = project.model(model)
        elif hint is FeatureSet:
            filled[name] = project.features(filled[policies[0]] if policies else project.model(model))
        elif hint is datetime and parameter.default is parameter.empty:
            filled[name] = clock.now()
        elif hint is Ci:
            filled[name] = project.policy.ci
        elif hint is Upgrade:
            filled[name] = project.policy.upgrade
    others = {name: value.value if isinstance(value, Stated) else value for name, value in remaining.items()}
    graph = pipeline.trace(filled | others)
    _check(graph)
    return graph


def select_step(graph: Graph, name: str) -> Graph:
    """Return the subgraph that runs one step: the step and the transient steps before it.

    Raises
    ------
    NotFound
        If the graph has no such step.
    """
    if name not in graph.nodes:
        raise NotFound(f"pipeline {graph.pipeline!r} has no step {name!r}", f"its steps are: {', '.join(graph.nodes)}")
    needed = {name}
    for node in reversed(graph.nodes.values()):
        if node.name in needed:
            needed |= {need for need in node.needs if graph.nodes[need].step.transient}
    part = Graph(graph.pipeline, graph.params)
    part.nodes = {node.name: node for node in graph.nodes.values() if node.name in needed}
    return part


def _read_model_name(value: Any) -> str:
    return str(value.value if isinstance(value, Stated) else value)


def _parse(pipeline: str, name: str, value: Any, hint: Any, project: Project) -> Any:
    if isinstance(value, Stated):
        value = value.value
        if hint is datetime and type(value) is date:
            value = datetime.combine(value, time())
        if hint is not ModelPolicy:
            with suppress(msgspec.ValidationError, TypeError):
                kept = msgspec.convert(value, hint)
                return _add_zone(kept) if hint is datetime else kept
    if hint is ModelPolicy and isinstance(value, str):
        return project.model(value)
    if isinstance(value, hint) if isinstance(hint, type) else False:
        return value
    if hint is datetime and isinstance(value, str) and _DAY.fullmatch(value):
        value = f"{value}T00:00:00"
    try:
        parsed = msgspec.convert(_decode_json(value, hint), hint, strict=False)
        return _add_zone(parsed)
    except (msgspec.ValidationError, TypeError) as error:
        expected = getattr(hint, "__name__", str(hint))
        raise InputError(
            f"parameter {name!r} of pipeline {pipeline!r} must be of type {expected}, but is {value!r}: {error}",
            "pass a value of that type; write lists and records as JSON, such as [1, 2]",
        ) from None


def _add_zone(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


def _decode_json(value: Any, hint: Any) -> Any:
    """Decode text that is JSON, if the parameter is a list or a record."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")) or hint in (str, Any):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _check(graph: Graph) -> None:
    for node in graph.nodes.values():
        _check_values(graph.pipeline, node)
        _check_outputs(graph.pipeline, node)
        if node.mapped_parameter:
            _check_mapping(graph, node)
        hints = node.step.hints
        for name, parameter in node.step.signature.parameters.items():
            if name in node.inputs or is_resource(hints.get(name)) or parameter.default is not parameter.empty:
                continue
            raise ConfigurationError(
                f"step {node.name!r} of pipeline {graph.pipeline!r} misses its input {name!r}",
                f"pass it where the pipeline calls {node.step.name}(…)",
            )


def _check_outputs(pipeline: str, node: Node) -> None:
    """Reject a step whose return annotation is a type that cannot be stored."""
    if node.step.transient:
        return
    for output in node.step.outputs:
        if reason := explain_refusal(node.step.output_type(output)):
            raise ConfigurationError(
                f"the output of step {node.name!r} of pipeline {pipeline!r} cannot be stored: {reason}",
                "return a frame, a Model, bytes or plain data, or register a codec under tidemill.codecs",
            )


def _check_mapping(graph: Graph, node: Node) -> None:
    source = node.inputs[node.mapped_parameter]
    if node.step.transient or (isinstance(source, Ref) and graph.nodes[source.node].step.transient):
        raise ConfigurationError(
            f"step {node.name!r} of pipeline {graph.pipeline!r} maps a transient step, or is transient and maps",
            "remove transient=True: mapped values must be stored",
        )


def _check_values(pipeline: str, node: Node) -> None:
    for name, value in node.inputs.items():
        hint = node.step.hints.get(name, Any)
        if hint in _SIMPLE and not isinstance(value, Ref) and not _fits(value, hint):
            raise ConfigurationError(
                f"pipeline {pipeline!r} passes {value!r} to step {node.name!r} as {name!r}, "
                f"which must be of type {hint.__name__}",
                "pass a value of that type, or change the annotation",
            )
        members = value if contains_refs(value) and not isinstance(value, Ref) else [value]
        try:
            msgspec.json.encode([member for member in members if not isinstance(member, Ref)])
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigurationError(
                f"pipeline {pipeline!r} passes an input {name!r} to step {node.name!r} that is not plain data: {error}",
                "pass numbers, text, lists, structs, the output of a step, or a list of these",
            ) from None


def _fits(value: Any, hint: type) -> bool:
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int) if hint is int else isinstance(value, int | float if hint is float else hint)
