"""Exports a run as events of OpenLineage (specification 2-0-2, https://openlineage.io)."""

from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from tidemill.core.artifact import Artifact
from tidemill.core.run import StepRun
from tidemill.evidence.story import Story, feeds, last_tries
from tidemill.evidence.words import ended

_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs"
_VERSION = version("tidemill")
_PRODUCER = f"urn:tidemill:{_VERSION}"
_ENDS = {"done": "COMPLETE", "ran": "COMPLETE", "cached": "COMPLETE", "failed": "FAIL"}
_FACETS = {
    "ParentRunFacet": "1-2-0",
    "ErrorMessageRunFacet": "1-0-1",
    "ProcessingEngineRunFacet": "1-1-1",
    "TagsRunFacet": "1-0-0",
    "JobTypeJobFacet": "2-0-4",
    "SourceCodeLocationJobFacet": "1-1-0",
    "DatasetVersionDatasetFacet": "1-0-1",
    "SchemaDatasetFacet": "1-2-0",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "DataQualityAssertionsDatasetFacet": "1-1-0",
}
Event = dict[str, Any]


def events(story: Story, project: str) -> Iterator[Event]:
    """The events of a run and of its steps, in the order of their times: a START each, and its end once it is over.

    A job is the pipeline or `pipeline.step`, in the namespace `tidemill://PROJECT/ENVIRONMENT`; a dataset is
    `pipeline.step.output`, its version the artifact's digest. A step that was skipped has no events.
    """
    yield from sorted(
        _Export(story, project).events(), key=lambda event: (event["eventTime"], event["eventType"] != "START")
    )


class _Export:
    """One run on its way out."""

    def __init__(self, story: Story, project: str) -> None:
        self._story = story
        self._run = story.run
        self._steps = last_tries(story.steps)
        self._namespace = f"tidemill://{project}/{story.run.environment}"

    def events(self) -> Iterator[Event]:
        run, job = self._run, self._run.pipeline
        begun = min([run.started, *(step.started for step in self._steps.values())])
        batches = [verdict for verdict in self._story.verdicts if verdict.check == "schema"]
        taken = [self._dataset(_source(one.subject), one.subject) | _judged(one) for one in batches]
        made = [self._dataset(f"models/{release.name}", release.label) for release in self._story.releases]
        yield self._event("START", begun, run.id, job, self._run_facets(), taken, [])
        if run.state != "running" and run.ended is not None:
            yield self._event(_end(run.state), run.ended, run.id, job, self._run_facets(run.error), taken, made)
        for step in self._steps.values():
            if step.state != "skipped":
                yield from self._step(step)

    def _step(self, step: StepRun) -> Iterator[Event]:
        job, taken = f"{self._run.pipeline}.{step.step}", self._taken(step)
        yield self._event("START", step.started, step.id, job, self._step_facets(step), taken, [])
        over = ended(step) or (self._run.ended if step.state != "running" else None)
        if over is not None:
            given = [self._artifact(step, name, "output") for name in step.outputs]
            facets = self._step_facets(step, step.error)
            yield self._event(_end(step.state), max(over, step.started), step.id, job, facets, taken, given)

    def _taken(self, step: StepRun) -> list[Event]:
        found = []
        for made, outputs in feeds(self._run, step, self._steps):
            found += [self._artifact(made, name, "input") for name in outputs or made.outputs]
        return found

    def _event(
        self, kind: str, time: datetime, run: str, job: str, facets: Event, inputs: list[Event], outputs: list[Event]
    ) -> Event:
        return {
            "eventType": kind,
            "eventTime": _moment(time),
            "run": {"runId": run, "facets": facets},
            "job": {"namespace": self._namespace, "name": job, "facets": self._job_facets(job)},
            "inputs": inputs,
            "outputs": outputs,
            "producer": _PRODUCER,
            "schemaURL": f"{_EVENT}/RunEvent",
        }

    def _run_facets(self, error: str = "") -> Event:
        run = self._run
        verdicts = [_told(verdict, "check", "subject", "outcome", "reason") for verdict in self._story.verdicts]
        told = _told(run, "params", "cause", "code", "software", "metrics", "engine", "host", "model")
        facets = self._engine(error) | {"tidemill_run": _own("RunFacet", **told, verdicts=verdicts)}
        if run.tags:
            tags = [{"key": name, "value": value, "source": "USER"} for name, value in run.tags.items()]
            facets["tags"] = _facet("TagsRunFacet", tags=tags)
        return facets

    def _step_facets(self, step: StepRun, error: str = "") -> Event:
        run = {"run": {"runId": self._run.id}, "job": {"namespace": self._namespace, "name": self._run.pipeline}}
        told = _told(step, "state", "reason", "key", "code", "executor", "attempt", "seconds")
        own = {"parent": _facet("ParentRunFacet", **run, root=run), "tidemill_step": _own("RunFacet", **told)}
        return self._engine(error, step.log) | own

    def _engine(self, error: str, log: str = "") -> Event:
        engine_version = self._run.software.get("tidemill", _VERSION)
        facets = {"processing_engine": _facet("ProcessingEngineRunFacet", version=engine_version, name="tidemill")}
        if error:
            trace = {"stackTrace": log} if log else {}
            facets["errorMessage"] = _facet(
                "ErrorMessageRunFacet", message=error, programmingLanguage="PYTHON", **trace
            )
        return facets

    def _job_facets(self, job: str) -> Event:
        kind = "DAG" if job == self._run.pipeline else "TASK"
        facets = {"jobType": _facet("JobTypeJobFacet", processingType="BATCH", integration="TIDEMILL", jobType=kind)}
        commit = self._run.code.get("commit")
        if commit:
            where = {"type": "git", "url": f"urn:git:{commit}", "version": str(commit), "path": "pipeline.py"}
            facets["sourceCodeLocation"] = _facet("SourceCodeLocationJobFacet", **where)
        return facets

    def _artifact(self, step: StepRun, output: str, side: str) -> Event:
        digest = step.outputs[output]
        dataset = self._dataset(f"{self._run.pipeline}.{step.step}.{output}", digest)
        artifact = self._story.artifacts.get(f"{step.step}.{output}")
        if artifact is None or artifact.transient:
            return dataset
        fields = _fields(artifact)
        if fields:
            dataset["facets"]["schema"] = _facet("SchemaDatasetFacet", fields=fields)
        rows = artifact.summary.get("rows")
        counts = {"size": artifact.size} | ({"rowCount": rows} if isinstance(rows, int) else {})
        name = "InputStatisticsInputDatasetFacet" if side == "input" else "OutputStatisticsOutputDatasetFacet"
        return dataset | {f"{side}Facets": {f"{side}Statistics": _facet(name, **counts)}}

    def _dataset(self, name: str, version: str) -> Event:
        facets = {"version": _facet("DatasetVersionDatasetFacet", datasetVersion=version)}
        return {"namespace": self._namespace, "name": name, "facets": facets}


def _told(record: Any, *names: str) -> Event:
    return {name: getattr(record, name) for name in names}


def _source(batch: str) -> str:
    return f"sources/{batch.partition('/')[0]}"


def _judged(verdict: Any) -> Event:
    """What the schema said of a batch, as an assertion on it."""
    said = {"assertion": "schema", "success": verdict.outcome == "pass"}
    return {"inputFacets": {"dataQualityAssertions": _facet("DataQualityAssertionsDatasetFacet", assertions=[said])}}


def _fields(artifact: Artifact) -> list[Event]:
    """The columns of a table, with their types where the ledger knows them."""
    columns = artifact.summary.get("columns") or []
    if isinstance(columns, dict):
        return [{"name": str(name), "type": str(kind)} for name, kind in columns.items()]
    return [{"name": str(name)} for name in columns] if isinstance(columns, list) else []


def _facet(kind: str, /, **values: Any) -> Event:
    url = f"{_SPEC}/facets/{_FACETS[kind]}/{kind}.json#/$defs/{kind}"
    return {"_producer": _PRODUCER, "_schemaURL": url, **values}


def _own(base: str, **values: Any) -> Event:
    """A facet of our own, which the specification lets every producer add under its name."""
    return {"_producer": _PRODUCER, "_schemaURL": f"{_EVENT}/{base}", **values}


def _end(state: str) -> str:
    """How a state is called there; what was stopped, interrupted or cancelled was aborted."""
    return _ENDS.get(state, "ABORT")


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
