"""The model card and the data sheet of a release."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from tidemill.core.metric import METRICS
from tidemill.core.run import METRIC_SETS
from tidemill.evidence.export.documents import Document, Fact, Question, Section, Table, ask_for, fact, to_text
from tidemill.evidence.export.facts import ReleaseFacts
from tidemill.evidence.formatting import format_number, format_time
from tidemill.ledger.batches import split_batch_id

_SHOWN_BATCHES = 50
_SHOWN_SLICES = 60
_MICROSECONDS_OF_A_DAY = 86_400_000_000


def build_model_card(facts: ReleaseFacts) -> Document:
    """Return the model card: what the model is for, how good it is, its limits, and what watches it."""
    release, policy = facts.release, facts.policy
    problem = policy.problem if policy else None
    identity = (
        *fact("release", release.label),
        *fact("created", release.created),
        *fact("flavor", release.flavor),
        *fact("package (SHA-256)", release.package),
        *fact("package is signed (OpenSSF model-signing)", bool(facts.signature)),
        *fact("earlier releases", [previous.label for previous in facts.previous[-5:]]),
        *fact("tags", release.tags),
        *fact("package problem", facts.package_problem),
    )
    purpose = (
        *fact("decision that uses the predictions", facts.decision),
        *fact("label", problem.label if problem else ""),
        *fact("task", problem.task if problem else (facts.model.manifest.signature.task if facts.model else "")),
        *fact("positive class", problem.positive if problem else ""),
        *fact("owner", facts.owner),
        *fact("main metric", problem.metric if problem else ""),
    )
    return Document(
        id="model-card",
        title=f"Model card of {release.label}",
        about="What the model is for, how good it is on its test rows, its limits, and what watches it in production. "
        "Rendered from the records of the ledger; an empty field is a question that they do not answer.",
        sections=(
            Section(id="card.identity", heading="Identity", facts=identity),
            Section(
                id="card.purpose",
                heading="Purpose",
                facts=purpose,
                questions=(
                    *ask_for(facts.decision, "card.decision", "Which decision uses the predictions?"),
                    *ask_for(facts.owner, "card.owner", "Who is responsible for the model?"),
                    Question(id="card.users", question="Who uses the predictions, and who is affected by them?"),
                    Question(id="card.out_of_scope", question="For which uses is the model not suitable?"),
                ),
            ),
            Section(id="card.inputs", heading="Inputs and outputs", **_describe_signature(facts)),
            Section(id="card.training", heading="Training", facts=describe_training(facts)),
            Section(id="card.metrics", heading="Performance on test rows", tables=list_metric_tables(facts)),
            Section(
                id="card.limits",
                heading="Limits",
                facts=describe_limits(facts),
                questions=(
                    Question(id="card.harm", question="Which errors do harm, and to whom?"),
                    Question(id="card.ethics", question="Which ethical considerations led the design?"),
                ),
            ),
            Section(
                id="card.monitoring",
                heading="Monitoring",
                facts=describe_monitoring(facts),
                tables=(list_live_verdicts(facts),) if facts.live else (),
            ),
        ),
    )


def build_data_sheet(facts: ReleaseFacts) -> Document:
    """Return the data sheet: where the rows came from, which were stopped, their time span and their statistics."""
    data = facts.release.trained_on
    span = (
        *fact("rows that the model learned", data.rows or None),
        *fact("from", data.trained_from),
        *fact("until", data.trained_until),
        *fact("table", data.table),
        *fact("version of the table", data.version if data.version >= 0 else None),
    )
    return Document(
        id="data-sheet",
        title=f"Data sheet of {facts.release.label}",
        about="The rows that the model was trained on: their source, the schema, the batches that were accepted and "
        "stopped, and their statistics. This document contains no rows and no values of text columns.",
        sections=(
            Section(
                id="data.source",
                heading="Source",
                facts=(*fact("source", facts.source), *fact("location", facts.source_kind)),
                questions=(
                    Question(id="data.collection", question="Who collected the data, how, and for which purpose?"),
                    Question(id="data.rights", question="On which legal basis, or under which licence, is it used?"),
                    Question(id="data.people", question="Does it contain personal data, and of whom?"),
                ),
            ),
            Section(id="data.span", heading="Rows", facts=span, tables=_list_batches(facts)),
            Section(id="data.schema", heading="Schema", facts=_describe_schema(facts), tables=_list_columns(facts)),
            Section(id="data.profile", heading="Statistics of the training rows", tables=_list_profile(facts)),
            Section(
                id="data.labels",
                heading="Labels",
                facts=fact("label", facts.policy.problem.label if facts.policy else ""),
                questions=(
                    Question(id="data.labelling", question="How, and by whom, were the labels determined?"),
                    Question(id="data.representative", question="For whom or what are the rows not representative?"),
                ),
            ),
        ),
    )


def describe_training(facts: ReleaseFacts) -> tuple[Fact, ...]:
    """Return how the model was trained."""
    if facts.run is None:
        return fact("origin", "registered manually: Tidemill has no record of its training")
    run, training = facts.run.run, facts.policy.training if facts.policy else None
    return (
        *fact("pipeline", run.pipeline),
        *fact("run", run.id, "records/run.json"),
        *fact("started", run.started),
        *fact("seconds", run.seconds),
        *fact("started by", run.started_by.trigger or run.started_by.user or run.started_by.by),
        *fact("commit", facts.commit + (" with uncommitted changes" if run.code.get("dirty") else "")),
        *fact("code (SHA-256)", str(run.code.get("digest", ""))),
        *fact("policy (SHA-256)", str(run.code.get("policy", ""))),
        *fact("the policy has changed since", True if facts.policy_changed else None),
        *fact("estimator", training.estimator if training else ""),
        *fact("parameters", training.params if training else {}),
        *fact("seed", training.seed if training else None),
        *fact("software", run.software, "environment/packages.txt"),
        *fact("steps", len({step.step for step in facts.run.steps})),
    )


def list_metric_tables(facts: ReleaseFacts) -> tuple[Table, ...]:
    """Return the metrics of the release, with the interval on test rows and the baseline, and those of its slices."""
    metrics = facts.release.metrics
    intervals = dict(facts.measured.intervals) if facts.measured else {}
    if facts.model and not intervals:
        known = facts.model.manifest.intervals.items()
        intervals = {name.removeprefix("test_"): pair for name, pair in known if name.startswith("test_")}
    names = dict.fromkeys(name.partition("_")[2] for name in metrics if name.partition("_")[0] in METRIC_SETS)
    rows = tuple(
        (
            name,
            _describe_direction(name),
            format_number(metrics.get(f"test_{name}")),
            _format_interval(intervals.get(name)),
            format_number(metrics.get(f"baseline_{name}")),
            format_number(metrics.get(f"train_{name}")),
        )
        for name in names
    )
    columns = ("metric", "better", "test", "interval", "trivial baseline", "training rows")
    tables = [Table(title="Metrics", columns=columns, rows=rows)] if rows else []
    if facts.measured and facts.measured.slices:
        tables.append(Table(title="Slices", columns=("slice", "rows", "metrics"), rows=tuple(_list_slices(facts))))
    return tuple(tables)


def _list_slices(facts: ReleaseFacts) -> Iterator[tuple[str, ...]]:
    assert facts.measured is not None
    for name, values in sorted(facts.measured.slices.items())[:_SHOWN_SLICES]:
        bounds = facts.measured.slice_intervals.get(name, {})
        shown = (
            f"{metric} {format_number(value)} {_format_interval(bounds.get(metric))}".strip()
            for metric, value in values.items()
            if metric != "rows"
        )
        yield name, format_number(values.get("rows")), ", ".join(shown)


def _describe_direction(name: str) -> str:
    found = METRICS.get(name)
    return "" if found is None else "higher" if found.greater_is_better else "lower"


def _format_interval(pair: tuple[float, float] | None) -> str:
    return f"({format_number(pair[0])} to {format_number(pair[1])})" if pair else ""


def describe_limits(facts: ReleaseFacts) -> tuple[Fact, ...]:
    """Return what the gate measured and warned of, and the values that the model has learned."""
    gate, policy = facts.gate, facts.policy
    found: tuple[Fact, ...] = ()
    if gate is not None:
        found += fact("verdict of the gate", f"{gate.outcome}: {gate.reason}", "records/verdicts.json")
        for finding in gate.evidence.get("findings", []):
            if finding.get("outcome") != "pass":
                found += fact(f"{finding.get('outcome')}: {finding.get('about')}", finding.get("reason"))
        for name, text in (("package_latency_ms", "milliseconds for one row"), ("package_memory_mb", "memory, MB")):
            found += fact(text, gate.evidence.get(name))
    if policy is not None:
        found += fact("least metrics that the gate requires", policy.gate.thresholds)
        found += fact("slices that the gate compares with the champion", policy.gate.slices)
        found += fact("requests outside the schema are refused", policy.serving.strict)
    return found


def describe_monitoring(facts: ReleaseFacts) -> tuple[Fact, ...]:
    """Return what watches the model, what it causes, and who is notified; addresses are not included."""
    policy = facts.policy
    serving = [
        f"{arm.role} {arm.portion} since {format_time(route.since)}: {route.reason}"
        for route in facts.routes
        for arm in route.arms
        if arm.release == facts.release.label and arm.role != "shadow"
    ]
    found = fact("use in production", "; ".join(serving), "records/routes.json")
    if policy is None:
        return found
    for value in policy.watch.values:
        text = f"limit {format_number(value.limit)} over {value.window}, then {value.action}"
        found += fact(f"watch of {value.value}", text)
    return (
        *found,
        *fact("triggers", facts.triggers),
        *fact("an approval is required", policy.rollout.approval),
        *fact("canary", policy.rollout.canary),
        *fact("notified addresses", len(policy.watch.notify) or None),
    )


def list_live_verdicts(facts: ReleaseFacts) -> Table:
    """Return the newest verdict of each check in production, and the number of its verdicts."""
    counts = Counter(verdict.check for verdict in facts.live)
    newest = {verdict.check: verdict for verdict in facts.live}
    rows = tuple(
        (check, f"{counts[check]:,}", verdict.outcome, verdict.action, format_time(verdict.time), verdict.reason)
        for check, verdict in sorted(newest.items())
    )
    columns = ("check", "verdicts", "newest", "action", "time", "reason")
    return Table(title="Verdicts in production", columns=columns, rows=rows)


def _describe_signature(facts: ReleaseFacts) -> dict[str, Any]:
    if facts.model is None:
        return {}
    manifest = facts.model.manifest
    ranges = {column.name: column for column in manifest.columns}
    rows = []
    for column in manifest.signature.inputs:
        known = ranges.get(column.name)
        limits = (
            ""
            if known is None or (known.low is None and known.high is None)
            else f"{to_text(known.low)} to {to_text(known.high)}"
        )
        domain = f"{len(known.domain):,} values" if known is not None and known.domain else ""
        rows.append((column.name, column.type, "yes" if column.nullable else "no", limits or domain))
    columns = ("input", "type", "may be missing", "range or domain in training")
    outputs = (*fact("classes", manifest.signature.classes), *fact("key", manifest.key), *fact("time", manifest.time))
    return {"facts": outputs, "tables": (Table(title="Inputs", columns=columns, rows=tuple(rows)),)}


def _list_batches(facts: ReleaseFacts) -> tuple[Table, ...]:
    rows = tuple(
        (
            split_batch_id(verdict.subject)[1],
            format_time(verdict.time),
            format_number(verdict.evidence.get("rows")),
            "stopped" if verdict.stops else "accepted",
            verdict.reason,
        )
        for verdict in facts.batches[-_SHOWN_BATCHES:]
    )
    stopped = sum(verdict.stops for verdict in facts.batches)
    title = f"Batches: {len(facts.batches) - stopped:,} accepted, {stopped:,} stopped"
    title += f"; the newest {_SHOWN_BATCHES}" if len(facts.batches) > _SHOWN_BATCHES else ""
    return (Table(title=title, columns=("batch", "checked", "rows", "state", "reason"), rows=rows),) if rows else ()


def _describe_schema(facts: ReleaseFacts) -> tuple[Fact, ...]:
    versions = [f"{v.version} ({v.by}, {format_time(v.accepted)}: {v.reason})" for v in facts.schemas]
    return fact("versions of the schema", "; ".join(versions), "records/schemas.json")


def _list_columns(facts: ReleaseFacts) -> tuple[Table, ...]:
    if not facts.schemas:
        return ()
    newest = max(facts.schemas, key=lambda version: version.version)
    rows = tuple(
        (
            column.name,
            column.type,
            "yes" if column.required else "no",
            format_number(column.missing),
            " to ".join((to_text(column.low), to_text(column.high))).strip() if column.low is not None else "",
            f"{len(column.domain):,}" if column.domain else "",
        )
        for column in newest.schema.columns
    )
    columns = ("column", "type", "required", "largest share of nulls", "range", "allowed values")
    return (Table(title=f"Columns of version {newest.version}", columns=columns, rows=rows),)


def _list_profile(facts: ReleaseFacts) -> tuple[Table, ...]:
    names = ("name", "type", "rows", "missing", "mean", "deviation", "low", "high", "distinct")
    rows = tuple(
        tuple(_format_statistic(column, name) for name in names) for column in facts.profile.get("columns", [])
    )
    return (Table(title="", columns=names, rows=rows),) if rows else ()


def _format_statistic(column: dict[str, Any], name: str) -> str:
    """Return a statistic of a column as text; those of times are microseconds since 1970."""
    value = column.get(name)
    if column.get("type") not in ("time", "date") or name not in ("mean", "low", "high", "deviation") or value is None:
        return to_text(value)
    if name == "deviation":
        return f"{format_number(value / _MICROSECONDS_OF_A_DAY)} days"
    return format_time(datetime.fromtimestamp(value / 1_000_000, UTC))
