"""The manifests for Kubernetes fit its schemas, are the same each time, and are sent nowhere by themselves."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from msgspec.structs import replace

from tidemill.core.environment import Environment
from tidemill.delivery.kubernetes import list_manifests, name_secret, render_manifests
from tidemill.delivery.target import Workload
from tidemill.errors import InputError


def workload(**settings: Any) -> Workload:
    return Workload(
        deployment="01a22ad6", environment="production", settings=Environment(target="kubernetes", **settings),
        build="b1", project="late-flights", image="sha256:" + "a" * 64, workspace=Path("/w"), data=Path("/d"), port=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{}, {"memory_mb": 2048, "accelerator": True, "variables": {"TZ": "UTC", "EMPTY": ""}}]
)
def test_every_manifest_fits_the_schema(settings: dict[str, Any]) -> None:
    for manifest in list_manifests(workload(**settings), "registry.example.com/team"):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
_IMAGE = re.compile(r"[a-z0-9.-]+(/[a-z0-9]+(([._]|__|-+)[a-z0-9]+)*)+@sha256:[0-9a-f]{64}")


@pytest.mark.parametrize("environment", ["production", "Prüfung 2", "2", "-", "x" * 60])
@pytest.mark.parametrize(
    "project",
    [
        "shop",
        "Late_Flights",
        "flights-",
        "a__-b",
        "Größe",
        "数据",
        "a" * 49,
        "a" * 40 + "-" + "b" * 80,
        "2048",
        "É",
        "x-" * 40,
    ],
)
def test_every_name_is_one_that_a_cluster_accepts(project: str, environment: str) -> None:
    """The schema does not know these rules: a Service is RFC 1035, a CronJob is short, and labels have a grammar."""
    named = replace(workload(), project=project, environment=environment)
    for manifest in list_manifests(named, "registry.example.com/team"):
        kubernetes_validate.validate(manifest, "1.31", strict=True)
        name = manifest["metadata"]["name"]
        assert _LABEL.fullmatch(name), name
        assert len(name) <= (52 if manifest["kind"] == "CronJob" else 63)
        for found in find_labels(manifest):
            assert _LABEL_VALUE.fullmatch(found), found
            assert len(found) <= 63
        for image in find_values(manifest, "image"):
            assert _IMAGE.fullmatch(image), image
    assert _LABEL.fullmatch(name_secret(named))


def find_values(value: Any, key: str) -> Iterator[Any]:
    """Iterate over the values of a key, at any depth."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        if name == key:
            yield child
        yield from find_values(child, key)


def find_labels(manifest: dict[str, Any]) -> Iterator[str]:
    for key in ("labels", "matchLabels", "selector"):
        for labels in find_values(manifest, key):
            yield from (text for text in labels.values() if isinstance(text, str))


def test_different_projects_and_environments_have_different_names() -> None:
    long = "a" * 60
    pairs = [(long, "production"), (long, "preproduction"), (long + "b", "production"), ("A", "x"), ("a", "x")]
    pairs += [("a_b", "x"), ("a-b", "x"), ("Größe", "x"), ("Grüße", "x"), ("数据", "x"), ("数", "x"), ("a", "X")]
    pairs += [("a-b", "c"), ("a", "b-c"), ("a-b-c", "d"), ("a", "b-c-d"), ("a-b", "c-d"), (long, "b-c")]
    names = {name_secret(replace(workload(), project=project, environment=name)) for project, name in pairs}
    assert len(names) == len(pairs)


def test_a_variable_that_refers_to_a_secret_is_read_from_the_secret_of_the_cluster() -> None:
    variables = {"DB_URL": "postgresql://${DB_PASSWORD}@host/x", "TZ": "UTC", "KEY": "${file:/keys/a.pem}"}
    text = render_manifests(workload(variables=variables))
    assert "DB_PASSWORD" not in text
    assert "/keys/a.pem" not in text
    for manifest in yaml.safe_load_all(text):
        kubernetes_validate.validate(manifest, "1.31", strict=True)
        if manifest["kind"] == "Deployment":
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            secrets = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in container["env"]}
            secret = "late-flights-production-stores"
            assert secrets == {name: {"name": secret, "key": name} for name in ("DB_URL", "KEY")}
        if manifest["kind"] == "ConfigMap":
            assert manifest["data"]["TZ"] == "UTC"


@pytest.mark.parametrize("name", ["TWO WORDS", "2ND", "GRÖSSE", "A=B", ""])
def test_a_variable_that_no_container_can_have_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a variable of a container"):
        render_manifests(workload(variables={name: "x"}))


def test_a_misspelt_manifest_does_not_fit() -> None:
    manifest = next(each for each in list_manifests(workload()) if each["kind"] == "Deployment")
    manifest["spec"]["replicas"] = "two"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_manifests_name_the_digest_and_are_the_same_each_time() -> None:
    text = render_manifests(workload(), "registry.example.com/team")
    assert text == render_manifests(workload(), "registry.example.com/team")
    kinds = [manifest["kind"] for manifest in yaml.safe_load_all(text)]
    assert sorted(set(kinds)) == [
        "ConfigMap", "CronJob", "Deployment", "HorizontalPodAutoscaler", "PersistentVolumeClaim", "Service",
    ]  # fmt: skip
    assert f"registry.example.com/team/late-flights@sha256:{'a' * 64}" in text
    assert ":latest" not in text


def test_containers_have_no_rights_and_no_secret_values() -> None:
    for manifest in list_manifests(workload()):
        if manifest["kind"] == "Deployment":
            pod = manifest["spec"]["template"]["spec"]
            assert pod["securityContext"]["runAsNonRoot"]
            assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert {"secretRef": {"name": "late-flights-production-stores"}} in pod["containers"][0]["envFrom"]


def test_pods_and_what_makes_them_name_their_deployment_environment_and_project() -> None:
    """So that stopping one deletes both, and nothing of another environment or project of the namespace."""
    for manifest in list_manifests(workload()):
        if manifest["kind"] == "Deployment":
            for labels in (manifest["metadata"]["labels"], manifest["spec"]["template"]["metadata"]["labels"]):
                assert labels["tidemill.dev/deployment"] == "01a22ad6"
                assert labels["tidemill.dev/environment"] == "production"
                assert labels["tidemill.dev/project"] == "late-flights"


def test_a_build_without_an_image_is_an_error() -> None:
    with pytest.raises(InputError, match="no container image") as missing:
        render_manifests(replace(workload(), image=""))
    assert 'image = "always"' in missing.value.cure
