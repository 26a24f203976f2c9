"""`ci list`, `ci export` and `ci generate`: builds, their files, and files for hosted CI."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tidemill.access.roles import DECIDE
from tidemill.cli import output
from tidemill.cli.ci import ci
from tidemill.cli.decisions import Reason, export_audit_head, record_decision
from tidemill.cli.session import Json, Limit, load_session, load_workspace, require_actor, select_filters
from tidemill.errors import ConfigurationError, InputError, NotFound

if TYPE_CHECKING:
    from tidemill.core.build import Build
    from tidemill.workspace.workspace import Workspace

_FILES = {
    "wheel": "{package}-{version}-py3-none-any.whl",
    "executable": "{project}.pyz",
    "source": "{project}-source.zip",
    "lock": "lock.txt",
    "sbom": "sbom.cdx.json",
    "ml-bom": "ml-bom.cdx.json",
    "tidemill": "{tidemill}",
}


@ci.command("list")
def list_builds(
    branch: Annotated[str, typer.Option(help="Only builds of this branch.")] = "",
    state: Annotated[str, typer.Option(help="Only passed, refused, or error.")] = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the builds, newest first."""
    project, workspace = load_workspace()
    filters = select_filters(branch=branch, state=state)
    builds = workspace.ledger.builds.find(project=project.name, newest=True, limit=limit, **filters)
    columns = {
        "build": lambda build: build.number,
        "commit": lambda build: build.commit[:12],
        "branch": lambda build: build.branch,
        "state": lambda build: build.state,
        "time": lambda build: build.created,
        "pusher": lambda build: build.pusher,
        "reason": lambda build: build.reason,
    }
    output.print_records(builds, columns, json=json, nothing="no builds yet: `tidemill ci run`")


@ci.command("export")
def export(
    number: Annotated[int, typer.Argument(help="The number of the build. Default: the last passed one.")] = 0,
    to: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("build"),
) -> None:
    """Write the files of a build: wheel, executable, source, lock, SBOM, ML-BOM, and the wheel of Tidemill."""
    from tidemill.delivery.runtime import name_wheel
    from tidemill.delivery.wheel import name_package, name_version

    project, workspace = load_workspace()
    build = _find_build(workspace, project.name, number)
    to.mkdir(parents=True, exist_ok=True)
    names = {"package": name_package(build.project), "version": name_version(build.commit), "project": build.project}
    for artifact, digest in sorted(build.artifacts.items()):
        content = workspace.blobs.get(digest)
        wheel = name_wheel(content) if artifact == "tidemill" else ""
        file = to / _FILES.get(artifact, artifact).format(**names, tidemill=wheel)
        file.write_bytes(content)
        if artifact == "executable":
            file.chmod(0o755)
        output.out.print(f"wrote {file}")


@ci.command("load")
def load(
    number: Annotated[int, typer.Argument(help="The number of the build. Default: the last passed one.")] = 0,
) -> None:
    """Copy the container image of a build into the storage of podman or docker, and print its name there."""
    from tidemill.core.ci import BuildHost
    from tidemill.core.environment import CONTROL
    from tidemill.delivery.image import Image, find_layout, load_image, name_image

    session = load_session(CONTROL)
    build = _find_build(session.workspace, session.project.name, number)
    if not build.image:
        raise NotFound(f"build {build.label} has no image", "see its verdict `ci_image`: `tidemill runs show`")
    image = Image(digest=build.image, name=name_image(build.project, build.commit))
    output.out.print(load_image(find_layout(session.resource(BuildHost)), image))


@ci.command("sign")
def sign(
    number: Annotated[int, typer.Argument(help="The number of the build. Default: the last passed one.")] = 0,
    reason: Reason = "",
) -> None:
    """Sign the container image of a build with the key of the policy, such as one built before there was a key."""
    from tidemill.core.ci import BuildHost
    from tidemill.core.environment import CONTROL
    from tidemill.core.signing import ImageSigner
    from tidemill.delivery.image import find_layout
    from tidemill.delivery.image_signature import sign_image
    from tidemill.host.keys import CREATE_KEY

    session = load_session(CONTROL)
    actor = require_actor(session, DECIDE)
    build = _find_build(session.workspace, session.project.name, number)
    if not build.image:
        raise NotFound(f"build {build.label} has no image", "see its verdict `ci_image`: `tidemill runs show`")
    layout, registry = find_layout(session.resource(BuildHost)), session.project.policy.ci.registry
    if not sign_image(session.resource(ImageSigner), layout, build.project, build.image, registry):
        raise ConfigurationError("the project has no private key", f"set key under [signing]; {CREATE_KEY}")
    with session.workspace.ledger.transaction(durable=True):
        record_decision(session, "signed", build.label, reason, actor)
    export_audit_head(session)
    output.out.print(f"the image {build.image[:19]} of {build.label} is signed")


def _find_build(workspace: "Workspace", project: str, number: int) -> "Build":
    """Return the build with a number, or the last passed one."""
    builds = workspace.ledger.builds.find(project=project)
    found = [build for build in builds if (build.number == number if number else build.state == "passed")]
    if not found:
        raise NotFound(f"there is no {f'build {number}' if number else 'passed build'}", "see `tidemill ci list`")
    return max(found, key=lambda build: build.number)


@ci.command("generate")
def generate(
    service: Annotated[str, typer.Argument(help="github or gitlab.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the file that runs CI in GitHub Actions or GitLab CI."""
    import sysconfig
    from importlib.metadata import version

    from tidemill.delivery.hosted import Service, write_hosted_file
    from tidemill.host.git_remote import find_repository
    from tidemill.project.project import Project

    if service not in ("github", "gitlab"):
        raise InputError(f"no file can be written for {service!r}", "use github or gitlab")
    project = Project.find()
    settings = project.policy.ci
    repository, folder = find_repository(project.folder) or (project.folder, "")
    written = write_hosted_file(
        cast("Service", service),
        project=project.name,
        folder=folder,
        lock="uv.lock" if (project.folder / "uv.lock").exists() else settings.lock,
        branches=settings.branches,
        python=sysconfig.get_python_version(),
        version=version("tidemill"),
    )
    file = repository / written.path
    if file.exists() and not force:
        raise InputError(f"{file} exists", "compare it, and use --force to replace it")
    output.write_file(file, written.text)
