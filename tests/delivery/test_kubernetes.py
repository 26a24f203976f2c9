"""The manifests for Kubernetes fit its schemas, are the same each time, and are sent nowhere by themselves."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tidemill.core.environment import Environment
from tidemill.delivery.kubernetes import list_manifests, render_manifests
from tidemill.delivery.target import Workload
from tidemill.errors import InputError


def workload(**settings: Any) -> Workload:
    return Workload(
        deployment="01a22ad6", environment="production", settings=Environment(target="kubernetes", **settings),
        build="b1", project="Late_Flights", image="sha256:" + "a" * 64, workspace=Path("/w"), data=Path("/d"), port=0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{}, {"memory_mb": 2048, "accelerator": True, "variables": {"TZ": "UTC", "EMPTY": ""}}]
)
def test_every_manifest_fits_the_schema(settings: dict[str, Any]) -> None:
    for manifest in list_manifests(workload(**settings), "registry.example.com/team"):
        kubernetes_validate.validate(manifest, "1.31", strict=True)


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
    from msgspec.structs import replace

    with pytest.raises(InputError, match="no container image") as missing:
        render_manifests(replace(workload(), image=""))
    assert 'image = "always"' in missing.value.cure
