"""Bills of material in CycloneDX 1.6: of the software of a build (SBOM), and of its models and data (ML-BOM).

Equal commits in equal environments result in equal bytes: the serial number comes from the commit, and the time is
the commit's.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from importlib.metadata import version as read_version
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from tidemill.core.policy import ModelPolicy, Policy
from tidemill.delivery.wheel import name_package, name_version
from tidemill.host.python import normalize_name, read_headers

_SPDX = re.compile(r"[A-Za-z0-9.+() -]+")


class BomSubject(msgspec.Struct, frozen=True, kw_only=True):
    """What a bill of material is about: a commit of a project, and the Python of its environment."""

    project: str
    commit: str
    date: datetime
    python: str


def write_sbom(
    subject: BomSubject, packages: Mapping[str, str], system: Mapping[str, str], licenses: Mapping[str, str]
) -> bytes:
    """Return the SBOM of a build: its packages, Python, and the system libraries.

    `licenses` has the SPDX expression of each package that states one.
    """
    application = _describe_application(subject)
    libraries = [_describe_package(name, version, licenses.get(name, "")) for name, version in sorted(packages.items())]
    python = {
        "type": "platform",
        "bom-ref": f"python@{subject.python}",
        "name": "python",
        "version": subject.python,
    }
    parts = [
        {"type": "library", "bom-ref": f"system/{name}@{version}", "name": name, "version": version}
        for name, version in sorted(system.items())
        if name != "system"
    ]
    components = [*libraries, python, *parts]
    dependencies = [
        {"ref": application["bom-ref"], "dependsOn": [component["bom-ref"] for component in components]},
        *({"ref": component["bom-ref"]} for component in components),
    ]
    return _write(subject, "sbom", application, components, dependencies)


def write_ml_bom(subject: BomSubject, policy: Policy) -> bytes:
    """Return the ML-BOM of a build: each model of the policy with its task, inputs and data, and each source."""
    application = _describe_application(subject)
    sources = [
        {
            "type": "data",
            "bom-ref": f"source/{name}",
            "name": name,
            "data": [{"type": "dataset", "name": name, "contents": {"properties": _list_facts({"path": source.path})}}],
        }
        for name, source in sorted(policy.sources.items())
    ]
    models = [_describe_model(subject, model) for _, model in sorted(policy.models.items())]
    dependencies = [
        {"ref": application["bom-ref"], "dependsOn": [model["bom-ref"] for model in models]},
        *(
            {"ref": f"model/{name}", "dependsOn": [f"source/{model.problem.source}"]}
            for name, model in sorted(policy.models.items())
        ),
        *({"ref": source["bom-ref"]} for source in sources),
    ]
    return _write(subject, "ml-bom", application, [*models, *sources], dependencies)


def _describe_application(subject: BomSubject) -> dict[str, Any]:
    name, version = name_package(subject.project), name_version(subject.commit)
    return {"type": "application", "bom-ref": f"{name}@{version}", "name": name, "version": version}


def _describe_package(name: str, version: str, license_expression: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name}@{version}"
    described: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if license_expression:
        described["licenses"] = [{"expression": license_expression}]
    return described


def _describe_model(subject: BomSubject, model: ModelPolicy) -> dict[str, Any]:
    problem, training = model.problem, model.training
    facts = {
        "label": problem.label,
        "metric": problem.metric,
        "estimator": training.estimator,
        "views": ", ".join(model.inputs.views),
        "seed": str(training.seed),
        "owner": problem.owner,
        **{f"parameter {name}": str(value) for name, value in sorted(training.params.items())},
    }
    inputs = model.inputs.request or ("columns of the source",)
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model/{model.name}",
        "name": model.name,
        "version": name_version(subject.commit),
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"},
                "task": problem.task,
                "architectureFamily": training.estimator,
                "datasets": [{"ref": f"source/{problem.source}"}],
                "inputs": [{"format": name} for name in inputs],
                "outputs": [{"format": problem.label}],
            },
            "considerations": {"useCases": [problem.decision]},
            "properties": _list_facts(facts),
        },
    }


def _list_facts(facts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"tidemill:{name}", "value": value} for name, value in facts.items() if value]


def _write(
    subject: BomSubject,
    kind: str,
    application: dict[str, Any],
    components: Iterable[dict[str, Any]],
    dependencies: Iterable[dict[str, Any]],
) -> bytes:
    serial = uuid5(NAMESPACE_URL, f"tidemill:{subject.project}:{subject.commit}:{kind}")
    tool = {"type": "application", "name": "tidemill", "version": read_version("tidemill")}
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "timestamp": f"{subject.date.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "tools": {"components": [tool]},
            "component": application,
        },
        "components": list(components),
        "dependencies": list(dependencies),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def read_licenses(environment: Path) -> dict[str, str]:
    """Return the SPDX license expression of each package of an environment that states one."""
    found = {}
    for package in distributions(path=[str(path) for path in environment.glob("lib/python*/site-packages")]):
        headers = read_headers(package)
        expression = str(headers.get("License-Expression", ""))
        if _SPDX.fullmatch(expression):
            found[normalize_name(str(headers["Name"]))] = expression
    return found
