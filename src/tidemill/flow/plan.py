"""Plans a run: fills the pipeline's parameters, traces it, and refuses what cannot work before anything runs."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from tidemill.blobs.artifacts import refuse
from tidemill.clock import Clock
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import Graph, Node, Pipeline, Ref, holds_refs
from tidemill.core.policy import ModelPolicy
from tidemill.errors import ConfigurationError, InputError, NotFound
from tidemill.flow.session import is_resource
from tidemill.project.project import Project

_SIMPLE = (bool, int, float, str, bytes)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def plan(pipeline: Pipeline, params: Mapping[str, Any], project: Project, clock: Clock) -> Graph:
    """The graph of a pipeline for these parameters.

    Text is read as the parameter's type, a time without a zone as UTC. What is not given comes from the project:
    a `ModelPolicy` (of the model named by the parameter `model`, or of the only one), its `FeatureSet`, and for a
    moment in time: now.

    Raises
    ------
    InputError
        for a parameter that is unknown, missing or of the wrong type.
    ConfigurationError
        for a step that misses an input, or is given what no cache key can hold.
    """
    hints = pipeline.hints
    policies = [name for name in pipeline.parameters if hints.get(name) is ModelPolicy]
    given = dict(params)
    model = str(given.pop("model", "")) if "model" in given and "model" not in pipeline.parameters else ""
    filled: dict[str, Any] = {}
    for name, parameter in pipeline.parameters.items():
        hint = hints.get(name, Any)
        if name in given:
            filled[name] = _read(pipeline.name, name, given.pop(name), hint, project)
        elif hint is ModelPolicy:
            filled[name] = project.model(model)
        elif hint is FeatureSet:
            filled[name] = project.features(filled[policies[0]] if policies else project.model(model))
        elif hint is datetime and parameter.default is parameter.empty:
            filled[name] = clock.now()
    graph = pipeline.trace(filled | given)
    _hold(graph)
    return graph


def with_only(graph: Graph, name: str) -> Graph:
    """The part of a graph that one step needs to run by itself: the step, and the transient steps before it.

    Raises
    ------
    NotFound
        where the graph has no such step.
    """
    if name not in graph.nodes:
        raise NotFound(f"pipeline {graph.pipeline!r} has no step {name!r}", f"its steps are: {', '.join(graph.nodes)}")
    kept = {name}
    for node in reversed(graph.nodes.values()):
        if node.name in kept:
            kept |= {need for need in node.needs if graph.nodes[need].step.transient}
    part = Graph(graph.pipeline, graph.params)
    part.nodes = {node.name: node for node in graph.nodes.values() if node.name in kept}
    return part


def _read(pipeline: str, name: str, value: Any, hint: Any, project: Project) -> Any:
    if hint is ModelPolicy and isinstance(value, str):
        return project.model(value)
    if isinstance(value, hint) if isinstance(hint, type) else False:
        return value
    if hint is datetime and isinstance(value, str) and _DAY.fullmatch(value):
        value = f"{value}T00:00:00"
    try:
        found = msgspec.convert(_plain(value, hint), hint, strict=False)
        return found.replace(tzinfo=UTC) if isinstance(found, datetime) and found.tzinfo is None else found
    except (msgspec.ValidationError, TypeError) as wrong:
        wanted = getattr(hint, "__name__", str(hint))
        raise InputError(
            f"parameter {name!r} of pipeline {pipeline!r} must be of type {wanted}: {wrong}",
            f"not {value!r}; lists and records are given as JSON, such as [1, 2]",
        ) from None


def _plain(value: Any, hint: Any) -> Any:
    """Text as plain data, where a parameter takes lists or records and the text is JSON."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")) or hint in (str, Any):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _hold(graph: Graph) -> None:
    for node in graph.nodes.values():
        _hold_values(graph.pipeline, node)
        _hold_outputs(graph.pipeline, node)
        if node.over:
            _hold_mapped(graph, node)
        hints = node.step.hints
        for name, parameter in node.step.signature.parameters.items():
            if name in node.inputs or is_resource(hints.get(name)) or parameter.default is not parameter.empty:
                continue
            raise ConfigurationError(
                f"step {node.name!r} of pipeline {graph.pipeline!r} misses its input {name!r}",
                f"pass it where the pipeline calls {node.step.name}(…)",
            )


def _hold_outputs(pipeline: str, node: Node) -> None:
    """Refuse a step whose annotation promises what cannot be kept, before it has worked for it."""
    if node.step.transient:
        return
    for output in node.step.outputs:
        if why := refuse(node.step.promised(output)):
            raise ConfigurationError(
                f"what step {node.name!r} of pipeline {pipeline!r} gives cannot be kept: {why}",
                "return a frame, a Model, bytes or plain data; or register a codec under tidemill.codecs",
            )


def _hold_mapped(graph: Graph, node: Node) -> None:
    source = node.inputs[node.over]
    if node.step.transient or (isinstance(source, Ref) and graph.nodes[source.node].step.transient):
        raise ConfigurationError(
            f"step {node.name!r} of pipeline {graph.pipeline!r} maps, or is mapped over, and is transient",
            "what is mapped must be kept: take transient=True away",
        )


def _hold_values(pipeline: str, node: Node) -> None:
    for name, value in node.inputs.items():
        hint = node.step.hints.get(name, Any)
        if hint in _SIMPLE and not isinstance(value, Ref) and not _fits(value, hint):
            raise ConfigurationError(
                f"pipeline {pipeline!r} gives step {node.name!r} {value!r} for {name!r}, "
                f"which must be of type {hint.__name__}",
                "give it a value of that type, or change the annotation",
            )
        members = value if holds_refs(value) and not isinstance(value, Ref) else [value]
        try:
            msgspec.json.encode([member for member in members if not isinstance(member, Ref)])
        except (TypeError, ValueError, OverflowError) as wrong:
            raise ConfigurationError(
                f"pipeline {pipeline!r} gives step {node.name!r} an input {name!r} that is no plain data: {wrong}",
                "pass numbers, text, lists, structs, the value of a step, or a list of such values",
            ) from None


def _fits(value: Any, hint: type) -> bool:
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int) if hint is int else isinstance(value, int | float if hint is float else hint)
