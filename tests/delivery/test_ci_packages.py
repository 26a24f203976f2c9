"""The packages of a build: the same bytes from two folders, valid bills of material, and an image that runs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests import parts
from tests.delivery.repositories import Repository, git, open_registry
from tests.projects import tidemill
from tidemill.core.ci import BuildHost
from tidemill.delivery.archive import read_archive, unpack_archive, write_archive
from tidemill.delivery.image import find_layout, pull_image, push_image
from tidemill.delivery.oci import Layout
from tidemill.host.containers import find_container_runtime


def with_images(repository: Repository, **settings: str) -> None:
    policy = repository.host / "tidemill.toml"
    lines = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
    policy.write_text(policy.read_text().replace('image = "never"\n', lines))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Repository:
    """A repository whose commit is built with an image in one folder."""
    repository = Repository(tmp_path_factory.mktemp("shared"), environments)
    with_images(repository, image="always")
    build = repository.build()
    assert build.image.startswith("sha256:")
    return repository


def test_the_same_commit_has_the_same_digests_in_another_folder(
    shared: Repository, tmp_path: Path, environments: Path
) -> None:
    other = object.__new__(Repository)
    other.bare, other.host, other.work = tmp_path / "copy.git", tmp_path / "elsewhere", shared.work
    git(tmp_path, "clone", "-q", "--bare", str(shared.bare), str(other.bare))
    (other.host / ".tidemill" / "ci").mkdir(parents=True)
    for name in ("tidemill.toml", "pipeline.py"):
        shutil.copy(shared.host / name, other.host / name)
    second, first = other.build(), shared.builds[0]
    assert second.artifacts == first.artifacts
    assert second.image == first.image
    assert (second.code, second.lock, second.policy) == (first.code, first.lock, first.policy)


def test_the_wheel_is_a_project_in_one_package(shared: Repository, tmp_path: Path) -> None:
    wheel = shared.artifact(shared.builds[0], "wheel")
    names = zipfile.ZipFile(BytesIO(wheel)).namelist()
    assert "kit_pipeline/tidemill.toml" in names
    assert not [name for name in names if "tests/" in name or "data/" in name]
    file = tmp_path / f"kit_pipeline-0+g{shared.commit[:12]}-py3-none-any.whl"
    file.write_bytes(wheel)
    installing = (sys.executable, "-m", "uv", "pip", "install", "--no-deps", "--target", str(tmp_path / "site"))
    subprocess.run([*installing, str(file)], check=True, capture_output=True)
    shown = tidemill(tmp_path, "show", "doubling", TIDEMILL_PROJECT=str(tmp_path / "site" / "kit_pipeline"))
    assert "double" in shown.stdout


def test_the_executable_runs_the_commands_of_the_project(shared: Repository, tmp_path: Path) -> None:
    file = tmp_path / "kit.pyz"
    file.write_bytes(shared.artifact(shared.builds[0], "executable"))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    command = [sys.executable, str(file), "show", "doubling"]
    done = subprocess.run(
        command, cwd=tmp_path, env=variables | {"XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "double" in done.stdout


@pytest.mark.parametrize("name", ["sbom", "ml-bom"])
def test_bills_of_material_are_valid_by_their_schema(shared: Repository, name: str) -> None:
    content = shared.artifact(shared.builds[0], name).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    document = json.loads(content)
    names = {component["name"] for component in document["components"]}
    assert ("polars" in names) == (name == "sbom")
    assert ("rows" in names) == (name == "ml-bom")
    assert "pytest" not in names


def test_the_ml_bom_has_the_models_of_the_policy() -> None:
    from datetime import UTC, datetime

    from tidemill.delivery.bom import BomSubject, write_ml_bom
    from tidemill.project.configuration import read_policy

    policy = read_policy(Path(__file__).parents[2] / "examples" / "flights" / "tidemill.toml")
    subject = BomSubject(project="flights", commit="a" * 40, date=datetime(2026, 1, 1, tzinfo=UTC), python="3.11.2")
    content = write_ml_bom(subject, policy).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(content) is None
    (model,) = [part for part in json.loads(content)["components"] if part["type"] == "machine-learning-model"]
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": "source/flights"}]


def test_an_image_has_only_what_the_lock_names_and_another_user(shared: Repository) -> None:
    host: BuildHost = shared.session.resource(BuildHost)
    layout = find_layout(host)
    layers, configuration = layout.read_image(f"kit:0-g{shared.commit[:12]}")
    assert configuration["config"]["User"] == "10001:10001"
    assert len(layers) == 3
    import tarfile

    with tarfile.open(layout.blob(layers[1].digest)) as archive:
        names = archive.getnames()
    assert any("/polars/" in name for name in names)
    assert not any("/pytest/" in name or "__pycache__" in name for name in names)
    with tarfile.open(layout.blob(layers[2].digest)) as archive:
        assert {entry.mtime for entry in archive.getmembers()} == {0}
        assert "opt/tidemill/projects/kit_pipeline/tidemill.toml" in archive.getnames()
        assert "opt/tidemill/sbom.cdx.json" in archive.getnames()


def require_tools(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"not on this machine: {tool} (scripts/install-system-parts)")


def test_an_image_runs_as_another_user_without_variables_of_this_process(shared: Repository, tmp_path: Path) -> None:
    require_tools("podman", "skopeo", "runc")
    build = shared.builds[0]
    with parts.containers(tmp_path):
        name = tidemill(shared.host, "ci", "load", str(build.number)).stdout.strip()
        running = ("podman", "run", "--rm", "--network", "host", *find_container_runtime().list_limits())
        listed = subprocess.run(["podman", "images", "--format", "{{.Digest}}"], capture_output=True, text=True)
        assert listed.stdout.strip() == build.image
        shown = subprocess.run([*running, name, "show", "doubling"], capture_output=True, text=True)
        assert "double" in shown.stdout, shown.stderr
        code = "import os, polars, lightgbm; print(os.getuid(), sorted(set(os.environ) & {'GITHUB_TOKEN'}))"
        entry = ("--entrypoint", f"/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}")
        user = subprocess.run([*running, *entry, name, "-c", code], capture_output=True, text=True)
        assert user.stdout.strip() == "10001 []", user.stderr


def test_an_image_keeps_its_digest_in_a_registry(tmp_path: Path) -> None:
    require_tools("skopeo")
    layout = Layout(tmp_path)
    digest = layout.write_image("kit:1", [layout.write_layer({"/a": b"content"})], {}, "2026-01-01T00:00:00Z")
    with open_registry() as address:
        push_image(layout, "kit:1", f"{address}/team/kit:1")
        inspecting = ("skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}")
        found = subprocess.run([*inspecting, f"docker://{address}/team/kit:1"], capture_output=True, text=True)
        assert found.stdout.strip() == digest
        pull_image(layout, f"{address}/team/kit@{digest}", "base:1")
        assert layout.read_image("base:1")[0] == layout.read_image("kit:1")[0]


def test_a_registry_that_is_unreachable_is_an_error(shared: Repository) -> None:
    policy = shared.host / "tidemill.toml"
    before = policy.read_text()
    policy.write_text(before.replace("[ci]\n", '[ci]\nregistry = "127.0.0.1:1/team"\n'))
    shared.run("--force", code=3)
    policy.write_text(before)
    failed = shared.builds[-1]
    assert (failed.state, failed.image) == ("error", shared.builds[0].image)
    assert "the image is not pushed to 127.0.0.1:1/team" in failed.reason


@pytest.mark.parametrize("image", ["auto", "always"])
def test_without_a_tool_for_the_base_image_no_image_is_built(
    repository: Repository, image: str, tmp_path: Path
) -> None:
    with_images(repository, image=image, base_image="registry.invalid/python:3.11@sha256:" + "0" * 64)
    (tmp_path / "bin").mkdir()
    for tool in ("git", "ldd", "sh"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    variables = {"PATH": str(tmp_path / "bin")}
    repository.run(code=3 if image == "always" else 0, **variables)
    (build,) = repository.builds
    assert build.state == ("error" if image == "always" else "passed")
    assert "no image was built: skopeo, which copies images, is not installed" in build.reason
    assert build.image == ""


def test_an_archive_depends_on_its_content_only(tmp_path: Path) -> None:
    files = {"b/run.sh": b"date\n", "a.py": b"1\n"}
    archive = write_archive(files, {"b/run.sh"})
    assert archive == write_archive(dict(reversed(files.items())), ["b/run.sh"])
    assert read_archive(archive) == files
    unpack_archive(archive, tmp_path)
    assert os.access(tmp_path / "b" / "run.sh", os.X_OK)
    assert not os.access(tmp_path / "a.py", os.X_OK)


def test_a_layout_deletes_what_no_image_needs(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    old = layout.write_layer({"/a": b"old"}, "key")
    new = layout.write_layer({"/a": b"new"})
    layout.write_image("kit:1", [old], {}, "2026-01-01T00:00:00Z")
    layout.write_image("kit:2", [new], {}, "2026-01-01T00:00:00Z")
    layout.prune(1)
    assert layout.blob(old.digest).exists()  # another build may just use it
    for blob in layout.blob("").iterdir():
        if blob.name != new.digest.removeprefix("sha256:"):
            os.utime(blob, (0, 0))
    layout.prune(1)
    assert not layout.blob(old.digest).exists()
    assert layout.find_layer("key") is None
    assert layout.read_image("kit:2")[0] == [new]
