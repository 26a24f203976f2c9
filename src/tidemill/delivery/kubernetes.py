"""The target `kubernetes`: manifests of a deployment, and their application to a cluster by kubectl."""

import hashlib
import re
import shutil
import subprocess
from typing import Any

import yaml

from tidemill.core.machine import MachineFacts
from tidemill.delivery.local import read_interpreter
from tidemill.delivery.oci import name_repository
from tidemill.delivery.target import Observation, OpenRuntime, Workload
from tidemill.errors import InputError, TidemillError

_SERVICE_PORT = 8000
_LONGEST_NAME = 49  # with -gc, the name of a CronJob has at most 52 characters
_HASH = 6
_DNS_LABEL = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USER = 65_532
_MANAGER = "tidemill"
_FOLDER = "/var/lib/tidemill"
_SECONDS = 120
_LABEL, _ENVIRONMENT, _PROJECT = "tidemill.dev/deployment", "tidemill.dev/environment", "tidemill.dev/project"


def render_manifests(workload: Workload, registry: str = "") -> str:
    """Return the manifests of a workload as YAML; nothing is sent to a cluster.

    The service runs in at least two replicas, which an autoscaler adds to, the daemon in one. Both read the URLs of the
    ledger and the blobs from the secret `NAME-stores`, as each variable that refers to a secret, and share a volume for
    the journal.

    Raises
    ------
    InputError
        if the build has no image, or a variable cannot be one of a container.
    """
    return str(yaml.safe_dump_all(list_manifests(workload, registry), sort_keys=False))


def list_manifests(workload: Workload, registry: str = "") -> list[dict[str, Any]]:
    """Return the manifests of a workload as values."""
    if not workload.image:
        raise InputError(
            "the build has no container image, which Kubernetes needs",
            'build one: image = "always" under [ci] in tidemill.toml, then push again',
        )
    name = _name_workload(workload)
    image = (
        f"{registry.rstrip('/')}/{name_repository(workload.project)}@{workload.image}" if registry else workload.image
    )
    service = _container("service", image, workload, _serve(workload))
    daemon = _container("daemon", image, workload, _run(workload))
    return [
        _manifest("v1", "ConfigMap", name, workload, data=_variables(workload)),
        _volume_claim(name, workload),
        _deployment(f"{name}-service", name, workload, service, replicas=2),
        _deployment(f"{name}-daemon", name, workload, daemon, replicas=1),
        _manifest(
            "v1",
            "Service",
            name,
            workload,
            spec={
                "selector": {"app": f"{name}-service"},
                "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            },
        ),
        _autoscaler(f"{name}-service", workload),
        _cleaning(f"{name}-gc", name, workload, image),
    ]


def _serve(workload: Workload) -> list[str]:
    address = ["--host", "0.0.0.0", "--port", str(_SERVICE_PORT), "--behind-proxy"]
    return ["serve", "--env", workload.environment, *address]


def _run(workload: Workload) -> list[str]:
    return ["up", "--env", workload.environment, "--port", str(_SERVICE_PORT), "--pages-port", str(_SERVICE_PORT + 1)]


def _variables(workload: Workload) -> dict[str, str]:
    """Return the variables whose values are no secrets.

    Raises
    ------
    InputError
        if a name cannot be that of an environment variable.
    """
    for name in workload.settings.variables:
        if not _VARIABLE.fullmatch(name):
            where = f"[environments.{workload.environment}.variables]"
            raise InputError(f"{name!r} in {where} cannot be a variable of a container", "use letters, digits and _")
    plain = {name: text for name, text in workload.settings.variables.items() if "${" not in text}
    return {"TIDEMILL_WORKSPACE": _FOLDER, "TIDEMILL_BUILD": workload.build, **plain}


def _secret_variables(workload: Workload) -> list[dict[str, Any]]:
    """Return the variables that refer to a secret: the pods read each from the secret of the cluster."""
    secret = name_secret(workload)
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name, text in workload.settings.variables.items()
        if "${" in text
    ]


def _container(role: str, image: str, workload: Workload, arguments: list[str]) -> dict[str, Any]:
    name = _name_workload(workload)
    memory = f"{workload.settings.memory_mb or 1024}Mi"
    resources: dict[str, Any] = {"requests": {"cpu": "250m", "memory": memory}, "limits": {"memory": memory}}
    if workload.settings.accelerator:
        resources["limits"]["nvidia.com/gpu"] = 1
    container: dict[str, Any] = {
        "name": role,
        "image": image,
        "args": arguments,
        "envFrom": [{"configMapRef": {"name": name}}, {"secretRef": {"name": name_secret(workload)}}],
        "resources": resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "state", "mountPath": _FOLDER}, {"name": "temporary", "mountPath": "/tmp"}],
    }
    if secrets := _secret_variables(workload):
        container["env"] = secrets
    if role == "service":
        container["ports"] = [{"name": "http", "containerPort": _SERVICE_PORT}]
        probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 5}
        container["startupProbe"] = {**probe, "failureThreshold": 60}
        container["livenessProbe"] = {**probe, "failureThreshold": 6}
        container["readinessProbe"] = {**probe, "httpGet": {"path": "/ready", "port": "http"}}
    return container


def _pod(name: str, container: dict[str, Any]) -> dict[str, Any]:
    return {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 60,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [
            {"name": "state", "persistentVolumeClaim": {"claimName": name}},
            {"name": "temporary", "emptyDir": {}},
        ],
    }


def _deployment(
    name: str, state: str, workload: Workload, container: dict[str, Any], *, replicas: int
) -> dict[str, Any]:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    labels = {
        "app": name,
        _LABEL: workload.deployment,
        _ENVIRONMENT: _name(workload.environment),
        _PROJECT: _name(workload.project),
    }
    manifest = _manifest(
        "apps/v1",
        "Deployment",
        name,
        workload,
        spec={
            "replicas": replicas,
            "strategy": rolling if replicas > 1 else {"type": "Recreate"},  # one daemon has the lease
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": _pod(state, container)},
        },
    )
    manifest["metadata"]["labels"] |= labels  # so that it can be deleted with its pods, which it would make again
    return manifest


def _volume_claim(name: str, workload: Workload) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "20Gi"}}}
    return _manifest("v1", "PersistentVolumeClaim", name, workload, spec=spec)


def _autoscaler(name: str, workload: Workload) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    usage = {"type": "Utilization", "averageUtilization": 70}
    load = {"type": "Resource", "resource": {"name": "cpu", "target": usage}}
    spec = {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 10, "metrics": [load]}
    return _manifest("autoscaling/v2", "HorizontalPodAutoscaler", name, workload, spec=spec)


def _cleaning(name: str, state: str, workload: Workload, image: str) -> dict[str, Any]:
    """Return the job that deletes what nothing refers to any more, once a night."""
    container = _container("gc", image, workload, ["gc", "--apply"])
    pod = _pod(state, container) | {"restartPolicy": "Never"}
    job = {"backoffLimit": 1, "template": {"metadata": {"labels": {"app": name}}, "spec": pod}}
    spec = {"schedule": "17 3 * * *", "concurrencyPolicy": "Forbid", "jobTemplate": {"spec": job}}
    return _manifest("batch/v1", "CronJob", name, workload, spec=spec)


def _manifest(version: str, kind: str, name: str, workload: Workload, **content: Any) -> dict[str, Any]:
    labels = {"app.kubernetes.io/part-of": _name(workload.project), "app.kubernetes.io/managed-by": _MANAGER}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "labels": labels}, **content}


def _name(text: str) -> str:
    """Return a text as a name of Kubernetes (RFC 1035, which a Service needs), with room for what is added to it.

    A text that has to be changed for it gets a part of its hash, so that different texts have different names.

    >>> _name("flights-production")
    'flights-production'
    >>> _name("2048_Größe")
    't-2048-gr-e-e42984'
    """
    if _DNS_LABEL.fullmatch(text) and len(text) <= _LONGEST_NAME:
        return text
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"t-{plain}"
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    return f"{plain[: _LONGEST_NAME - _HASH - 1].strip('-')}-{digest}"


def name_secret(workload: Workload) -> str:
    """Return the name of the secret that the pods read, which a person creates."""
    return f"{_name_workload(workload)}-stores"


def _name_workload(workload: Workload) -> str:
    """Return the name of what is made for one environment of a project.

    An environment with a hyphen adds a hash of both names: the projects `a` and `a-b` may have the environments `b-c`
    and `c`. Others keep the name that they have in clusters.
    """
    name = _name(f"{workload.project}-{workload.environment}")
    if "-" not in workload.environment:
        return name
    digest = hashlib.sha256(f"{workload.project}/{workload.environment}".encode()).hexdigest()[:_HASH]
    return f"{name[: _LONGEST_NAME - _HASH - 1].strip('-')}-{digest}"


class KubernetesTarget:
    """Applies the manifests of a workload to the cluster of kubectl's present context, by server-side apply.

    Other projects, and other environments of `project`, can be in the same namespace.
    """

    def __init__(self, registry: str = "", project: str = "") -> None:
        self._registry, self._project = registry, project

    def prepare(self, workload: Workload, runtime: OpenRuntime) -> MachineFacts:
        """Return what the build finds on this machine: the nodes of the cluster are not asked."""
        return read_interpreter(workload, runtime)

    def start(self, workload: Workload, runtime: OpenRuntime) -> None:  # noqa: ARG002 - the image has its own interpreter
        _kubectl("apply", "--server-side", "--field-manager", _MANAGER, "-f", "-", text=self._render(workload))

    def observe(self, workload: Workload) -> Observation:
        name = f"{_name_workload(workload)}-service"
        path = "jsonpath={.spec.template.metadata.labels.tidemill\\.dev/deployment} {.status.readyReplicas}"
        shown = _kubectl("get", "deployment", name, "-o", path, "--ignore-not-found").split()
        if not shown or shown[0] != workload.deployment:
            return Observation(state="absent")
        address = f"http://{name.removesuffix('-service')}"
        ready = len(shown) > 1 and shown[1] not in ("", "0")
        if not ready:
            return Observation(state="starting")
        return Observation(state="public", address=address, public=address, is_checked=True)

    def activate(self, workload: Workload) -> None:
        """Do nothing: the service of the cluster follows the readiness of the pods."""

    def stop(self, environment: str, deployment: str) -> None:  # noqa: ARG002 - its label is unique
        """Delete the pods of a deployment, and what makes them, unless that makes those of the next one already."""
        selector = f"{_LABEL}={deployment}"
        _kubectl("delete", "deployment,pod", "--selector", selector, "--ignore-not-found", "--wait=true")

    def list_running(self, environment: str) -> list[str]:
        path = "jsonpath={.items[*].metadata.labels.tidemill\\.dev/deployment}"
        selector = f"{_ENVIRONMENT}={_name(environment)},{_PROJECT}={_name(self._project)}"
        return sorted(set(_kubectl("get", "pods", "--selector", selector, "-o", path).split()))

    def _render(self, workload: Workload) -> str:
        return render_manifests(workload, self._registry)


def _kubectl(*arguments: str, text: str = "") -> str:
    program = shutil.which("kubectl")
    if program is None:
        raise TidemillError(
            "kubectl is not installed, so nothing can be applied to a cluster",
            "install it, or write the manifests with `tidemill deploy render`",
        )
    try:
        process = subprocess.run(
            [program, *arguments], input=text, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise TidemillError(f"kubectl {arguments[0]} did not end within {_SECONDS} s", "check the cluster") from None
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines()
        raise TidemillError(f"kubectl {arguments[0]} failed: {lines[-1] if lines else ''}", "check the cluster")
    return process.stdout
