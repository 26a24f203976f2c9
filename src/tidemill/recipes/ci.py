"""CI: builds a commit of the project: its environment, tests, checks and packages, and records the result.

The steps run code of the commit only in processes with limits, without the addresses of the stores, tokens or keys. A
part that refuses the commit does not stop the run: the last step records the build with the results of all parts.
"""

import hashlib
from pathlib import Path

from tidemill.clock import Clock
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.ci import BuildHost, Ci
from tidemill.core.context import Context
from tidemill.core.event import PushPayload
from tidemill.core.pipeline import pipeline, step
from tidemill.core.resources import Books, BooksReader
from tidemill.core.signing import ImageSigner
from tidemill.core.upgrade import Upgrade
from tidemill.delivery import environment as environments
from tidemill.delivery import image as images
from tidemill.delivery import image_signature, packaging, running, security, upgraded
from tidemill.delivery.archive import read_archive, write_archive
from tidemill.delivery.checkout import Checkout, fetch_source
from tidemill.delivery.environment import BuildEnvironment
from tidemill.delivery.image import Image
from tidemill.delivery.judgement import Judgement, judge_checkout
from tidemill.delivery.publish import publish_result
from tidemill.delivery.record import conclude, record_build
from tidemill.delivery.tidying import tidy_builds
from tidemill.delivery.wheel import write_project_wheel


@step
def fetch(
    settings: Ci, request: PushPayload, force: bool, host: BuildHost, books: BooksReader, context: Context
) -> tuple[Checkout, bytes]:
    """Fetch the commit of the request, or of the push that caused the run; return it and a zip file of its files."""
    tidy_builds(host)
    event = str(context.cause.get("event", ""))
    if not request.commit and event:
        request = books.events.get(event).read(PushPayload)
    source = fetch_source(settings, host, books.builds, request, force=force)
    return source.checkout, write_archive(source.files, source.executable)


@step
def make_environment(
    settings: Ci, checkout: Checkout, source: bytes, host: BuildHost, context: Context
) -> BuildEnvironment:
    """Make the environment of the commit's lock with uv, or find it if it exists."""
    if not checkout.is_buildable:
        return BuildEnvironment()
    return environments.make_environment(settings, host, read_archive(source), _log(host, context))


@step
def run_tests(
    settings: Ci, checkout: Checkout, source: bytes, environment: BuildEnvironment, host: BuildHost, context: Context
) -> list[Judgement]:
    """Run the tests of the commit in its environment."""
    if not checkout.is_buildable or environment.problem:
        return []
    return [running.run_tests(settings, host, source, environment, _log(host, context))]


@step
def check_project(
    settings: Ci, checkout: Checkout, source: bytes, environment: BuildEnvironment, host: BuildHost, context: Context
) -> list[Judgement]:
    """Check that the project's code can be imported and every pipeline planned."""
    if not checkout.is_buildable or environment.problem:
        return []
    return [running.plan_project(settings, host, source, environment, _log(host, context))]


@step
def check_security(
    settings: Ci, checkout: Checkout, source: bytes, environment: BuildEnvironment, host: BuildHost
) -> list[Judgement]:
    """Check the files for unsafe pickles and secrets, and the lock for vulnerable packages."""
    if not checkout.is_buildable:
        return []
    return [security.check_security(settings, read_archive(source), environment.packages, host.project)]


@step
def check_upgrade(
    settings: Upgrade,
    checkout: Checkout,
    source: bytes,
    environment: BuildEnvironment,
    host: BuildHost,
    books: BooksReader,
    context: Context,
) -> list[Judgement]:
    """Compare the answers of the training with those in the environment of the last passed build, if that differs."""
    if not checkout.is_buildable or environment.problem:
        return []
    last = upgraded.find_last_build(books.builds, checkout.project, checkout.branch)
    return upgraded.judge_commit(settings, host, source, environment, last, _log(host, context))


@step
def make_wheel(checkout: Checkout, source: bytes, environment: BuildEnvironment) -> bytes:
    """Make the wheel of the commit: equal commits result in equal bytes."""
    if not checkout.is_buildable or environment.problem:
        return b""
    needs = list(environment.runtime)
    return write_project_wheel(checkout.project, checkout.commit, read_archive(source), needs, environment.python)[1]


@step
def make_packages(
    settings: Ci, checkout: Checkout, source: bytes, wheel: bytes, environment: BuildEnvironment, host: BuildHost
) -> tuple[bytes, bytes, bytes, bytes, bytes]:
    """Make the executable, copy the lock and the wheel of Tidemill, and write the bills of material.

    These are of the software, and of models and data.
    """
    if not wheel:
        return b"", b"", b"", b"", b""
    made = packaging.make_packages(settings, host, checkout, read_archive(source), wheel, environment)
    return made.executable, made.lock, made.sbom, made.ml_bom, made.tidemill


@step
def make_image(
    settings: Ci,
    checkout: Checkout,
    wheel: bytes,
    sbom: bytes,
    ml_bom: bytes,
    environment: BuildEnvironment,
    host: BuildHost,
    signer: ImageSigner,
) -> tuple[Image, list[Judgement]]:
    """Make the container image, push it if a registry is set, and sign it if the project has a key."""
    if not wheel:
        return Image(), []
    boms = {"sbom": sbom, "ml-bom": ml_bom}
    image, judgements = images.make_image(settings, host, checkout, environment, wheel, boms)
    return image, [*judgements, *image_signature.judge_signature(settings, host, signer, checkout.project, image)]


@step
def record(
    checkout: Checkout,
    environment: BuildEnvironment,
    judgements: list[list[Judgement]],
    source: bytes,
    wheel: bytes,
    executable: bytes,
    lock: bytes,
    sbom: bytes,
    ml_bom: bytes,
    tidemill: bytes,
    image: Image,
    books: Books,
    clock: Clock,
    context: Context,
) -> Build | None:
    """Record the build with its verdicts and its event; a commit that need not be built has no build."""
    if checkout.unchanged:
        return None
    packages = {"source": source, "wheel": wheel, "executable": executable}
    packages |= {"lock": lock, "sbom": sbom, "ml-bom": ml_bom, "tidemill": tidemill}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in packages.items() if content}
    flat = [*judge_checkout(checkout, environment), *(judgement for group in judgements for judgement in group)]
    return record_build(checkout, environment, flat, digests, image.digest, books, clock, context)


@step
def report(settings: Ci, checkout: Checkout, build: Build | None, host: BuildHost) -> Verdict:  # noqa: ARG001
    """Write the result to the commit, and return the verdict on it, which stops the run unless the build passed."""
    problems = [] if build is None else list(publish_result(settings, checkout.remote, build))
    for problem in problems:
        print(problem)
    return conclude(checkout, build, problems)


@pipeline
def ci(
    settings: Ci,
    upgrade: Upgrade,
    remote: str = "",
    branch: str = "",
    commit: str = "",
    pusher: str = "",
    force: bool = False,
) -> None:
    """Build a commit: fetch, environment, tests, checks, security, packages, record, report."""
    request = PushPayload(commit=commit, branch=branch, remote=remote, pusher=pusher)
    checkout, source = fetch(settings, request, force)
    environment = make_environment(settings, checkout, source)
    tests = run_tests(settings, checkout, source, environment)
    checks = check_project(settings, checkout, source, environment)
    secure = check_security(settings, checkout, source, environment)
    equivalent = check_upgrade(upgrade, checkout, source, environment)
    wheel = make_wheel(checkout, source, environment)
    executable, lock, sbom, ml_bom, tidemill = make_packages(settings, checkout, source, wheel, environment)
    image, imaged = make_image(settings, checkout, wheel, sbom, ml_bom, environment)
    judgements = [tests, checks, secure, equivalent, imaged]
    packages = (source, wheel, executable, lock, sbom, ml_bom, tidemill)
    build = record(checkout, environment, judgements, *packages, image)
    report(settings, checkout, build)


def _log(host: BuildHost, context: Context) -> Path:
    return host.folder / "logs" / context.run / f"{context.step}.log"
