"""Container images of builds: Python, the packages of the lock and the project, as a user without rights."""

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any

from msgspec import Struct

from tidemill.core.ci import BuildHost, Ci
from tidemill.delivery.archive import read_archive
from tidemill.delivery.checkout import Checkout
from tidemill.delivery.environment import BuildEnvironment, find_environment
from tidemill.delivery.judgement import Judgement
from tidemill.delivery.oci import Layer, Layout, name_repository
from tidemill.delivery.root_files import (
    PACKAGES,
    PROJECTS,
    PYTHON_HOME,
    STATE,
    USER,
    list_package_files,
    list_path_files,
    list_project_files,
    list_python_files,
)
from tidemill.delivery.wheel import name_package, name_version
from tidemill.errors import Corrupt, NotFound, TidemillError, Transient
from tidemill.host.containers import ContainerRuntime, find_container_runtime

_BASE = "base"
_SECONDS = 900


class Image(Struct, frozen=True, kw_only=True):
    """An image of a build; `digest` is empty if none was made.

    `name` is its name in the layout, such as `flights:0-g4f2a91c0d3e1`; `pushed` is its address in the registry.
    """

    digest: str = ""
    name: str = ""
    pushed: str = ""


def name_image(project: str, commit: str) -> str:
    """Return the name of the image of a commit in the layout.

    >>> name_image("Flights", "4f2a91c0d3e1" + "0" * 28)
    'flights:0-g4f2a91c0d3e1'
    """
    return f"{name_repository(project)}:{name_version(commit).replace('+', '-')}"


def find_layout(host: BuildHost) -> Layout:
    """Return the layout with the images of a workspace."""
    return Layout(host.folder / "images")


def make_image(
    ci: Ci,
    host: BuildHost,
    checkout: Checkout,
    environment: BuildEnvironment,
    wheel: bytes,
    boms: Mapping[str, bytes],
) -> tuple[Image, list[Judgement]]:
    """Make the image of a commit, and push it if a registry is set; equal commits result in one digest."""
    if ci.image == "never":
        return Image(), []
    try:
        image = _write_image(ci, find_layout(host), host, checkout, environment, read_archive(wheel), boms)
    except (TidemillError, OSError) as failure:
        reason = failure.problem if isinstance(failure, TidemillError) else str(failure)
        outcome = "warn" if ci.image == "auto" else "undecided"
        return Image(), [Judgement(check="ci_image", outcome=outcome, reason=f"no image was built: {reason}")]  # type: ignore[arg-type]
    evidence: dict[str, Any] = {"digest": image.digest, "name": image.name}
    if not ci.registry:
        return image, [Judgement(check="ci_image", outcome="pass", reason=f"image {image.digest}", evidence=evidence)]
    address = f"{ci.registry.rstrip('/')}/{image.name}"
    try:
        push_image(find_layout(host), image.name, address)
    except TidemillError as failure:
        reason = f"the image is not pushed to {ci.registry}: {failure.problem}"
        return image, [Judgement(check="ci_image", outcome="undecided", reason=reason, evidence=evidence)]
    evidence["pushed"] = f"{address.rpartition(':')[0]}@{image.digest}"
    reason = f"image {image.digest}, pushed to {address}"
    pushed = Image(digest=image.digest, name=image.name, pushed=str(evidence["pushed"]))
    return pushed, [Judgement(check="ci_image", outcome="pass", reason=reason, evidence=evidence)]


def _write_image(
    ci: Ci,
    layout: Layout,
    host: BuildHost,
    checkout: Checkout,
    environment: BuildEnvironment,
    wheel_files: Mapping[str, bytes],
    boms: Mapping[str, bytes],
) -> Image:
    version = name_version(checkout.commit)
    package = name_package(checkout.project)
    layers, base = _find_base(ci, layout, environment)
    folder = find_environment(host, environment)
    versions = (f"{name}=={text}" for name, text in sorted(environment.deployed.items()))
    key = _digest("packages and records", environment.python, environment.tidemill, ci.base_image, *versions)
    packages = layout.find_layer(key) or layout.write_layer(
        list_package_files(folder, environment.deployed, with_libraries=not ci.base_image), key
    )
    minor = ".".join(environment.python.split(".")[:2])
    paths = list_path_files("/usr/local" if ci.base_image else PYTHON_HOME, minor)
    project = layout.write_layer(list_project_files(wheel_files, boms) | paths, with_state=True)
    command = f"python{minor}" if ci.base_image else f"{PYTHON_HOME}/bin/python{minor}"
    variables = [
        *(f"{name}={value}" for name, value in base.items()),
        f"PYTHONPATH={PACKAGES}:{PROJECTS}",
        "PYTHONDONTWRITEBYTECODE=1",
        f"HOME={STATE}",
        f"TIDEMILL_PROJECT={PROJECTS}/{package}",
        f"TIDEMILL_WORKSPACE={STATE}",
        f"TIDEMILL_DATA={STATE}",
    ]
    created = f"{checkout.date.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    labels = {
        "org.opencontainers.image.title": checkout.project,
        "org.opencontainers.image.version": version,
        "org.opencontainers.image.revision": checkout.commit,
        "org.opencontainers.image.created": created,
    }
    config = {
        "User": f"{USER}:{USER}",
        "Env": variables,
        "Entrypoint": [command, "-m", "tidemill"],
        "Cmd": ["up"],
        "WorkingDir": STATE,
        "Volumes": {STATE: {}},
        "Labels": labels,
    }
    name = name_image(checkout.project, checkout.commit)
    digest = layout.write_image(name, [*layers, packages, project], config, created)
    return Image(digest=digest, name=name)


def _find_base(ci: Ci, layout: Layout, environment: BuildEnvironment) -> tuple[list[Layer], dict[str, str]]:
    """Return the layers to start from, and the environment variables that they need."""
    if not ci.base_image:
        key = _digest("python", environment.python, *(f"{name}={text}" for name, text in environment.system.items()))
        layer = layout.find_layer(key) or layout.write_layer(list_python_files(), key)
        path = {"PATH": f"{PYTHON_HOME}/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": f"{PYTHON_HOME}/lib"}
        return [layer], path | {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}
    name = f"{_BASE}:{_digest(ci.base_image)}"
    if ":" not in ci.base_image.rpartition("/")[2] or "@sha256:" not in ci.base_image:
        print(f"the base image {ci.base_image} has no digest: the same commit can result in another image later")
    pull_image(layout, ci.base_image, name)
    layers, configuration = layout.read_image(name)
    entries = (entry.partition("=") for entry in configuration.get("config", {}).get("Env") or ())
    variables = {name: value for name, _, value in entries}
    return layers, variables


def pull_image(layout: Layout, address: str, name: str) -> None:
    """Copy an image of a registry into a layout; one with a digest is copied once.

    Raises
    ------
    TidemillError
        if skopeo is not installed, or the image cannot be read.
    """
    if "@sha256:" in address:
        try:
            layout.read_image(name)
            return
        except TidemillError:
            pass
    copy_from_registry(layout, address, name)


def copy_from_registry(layout: Layout, address: str, name: str) -> None:
    """Copy an image of a registry into a layout under a name."""
    _run_skopeo("copy", *_insecure("src", address), f"docker://{address}", f"oci:{layout.folder}:{name}")


def push_image(layout: Layout, name: str, address: str) -> None:
    """Copy an image of a layout to a registry, with the same digest.

    Raises
    ------
    TidemillError
        if skopeo is not installed, or the registry refuses the image.
    Transient
        if the registry cannot be reached.
    """
    copy_to_registry(layout, name, address)


def copy_to_registry(layout: Layout, name: str, address: str) -> None:
    """Copy an image of a layout to an address in a registry."""
    options = ("copy", "--preserve-digests", *_insecure("dest", address))
    _run_skopeo(*options, f"oci:{layout.folder}:{name}", f"docker://{address}")


def load_image(layout: Layout, image: Image) -> str:
    """Copy an image into the storage of podman or docker, and return the name under which it can be run.

    Raises
    ------
    TidemillError
        if neither is installed, or the image cannot be loaded.
    """
    local = f"localhost/{image.name}"
    storage = find_container_runtime().storage
    _run_skopeo("copy", "--quiet", f"oci:{layout.folder}:{image.name}", f"{storage}:{local}")
    return local


def load_digest(containers: ContainerRuntime, layout: Layout, project: str, digest: str, registry: str = "") -> str:
    """Return the id under which the image with this digest can be run, after it is loaded if it is not yet.

    A name in the storage of the runtime proves nothing: anybody who can write there can give it to another image. An
    image that is not in the layout is copied from the registry.

    Raises
    ------
    TidemillError
        if it is in neither, or cannot be loaded.
    Corrupt
        if the storage has another image, or what is in the layout was changed.
    """
    own = f"{name_repository(project)}:{digest.removeprefix('sha256:')}"
    local = f"localhost/{own}"
    name = layout.find_name(digest, own)
    if name is None:
        known = containers.describe_image(local)
        if known is not None and known.digest == digest:
            return known.id
        if not registry:
            raise NotFound(f"image {digest} is not in {layout.folder} any more", "build the commit again")
        pull_image(layout, f"{registry.rstrip('/')}/{name_repository(project)}@{digest}", own)
    expected = (layout.require_unchanged(digest), digest)
    known = containers.describe_image(local)
    if known is None or known.id not in expected:
        _run_skopeo("copy", "--quiet", f"oci:{layout.folder}:{name or own}", f"{containers.storage}:{local}")
        known = containers.describe_image(local)
    if known is None or known.id not in expected:
        raise Corrupt(
            f"{containers.kind} has another image under the name {local} than the one that was loaded",
            f"find out who changed its storage; delete it: `{containers.kind} rmi {local}`",
        )
    return known.id


def _insecure(side: str, address: str) -> tuple[str, ...]:
    """Return the option that allows a registry on this machine without TLS."""
    host = address.partition("/")[0].partition(":")[0]
    return (f"--{side}-tls-verify=false",) if host in ("localhost", "127.0.0.1") else ()


def _run_skopeo(*arguments: str) -> None:
    if shutil.which("skopeo") is None:
        raise TidemillError("skopeo, which copies images, is not installed", "install skopeo on this machine")
    _run("skopeo", "--insecure-policy", *arguments)


def _run(*command: str) -> str:
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Transient(f"{command[0]} did not end within {_SECONDS} s", "check the network, then try again") from None
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()]
        message = lines[-1][-500:] if lines else f"exit status {process.returncode}"
        if "Digest did not match" in message:
            raise Corrupt(f"a part of the image was changed: {message}", "do not run it; build the commit again")
        kind = Transient if "connection refused" in message or "no such host" in message else TidemillError
        raise kind(f"{command[0]} failed: {message}", "check the address of the registry and the access to it")
    return process.stdout


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def image_folder(host: BuildHost) -> Path:
    """Return the folder of the layout, for other tools: `skopeo copy oci:FOLDER:NAME …`."""
    return find_layout(host).folder
