"""Releases: versions of a model under a name."""

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.metric import order_metrics
from tidemill.core.model import Model
from tidemill.core.release import Release
from tidemill.core.resources import Books
from tidemill.errors import Conflict
from tidemill.faults import maybe_crash
from tidemill.ledger.releases import find_release

_ATTEMPTS = 50


def register(
    books: Books,
    clock: Clock,
    model: Model,
    package: str,
    *,
    environment: str,
    run: str = "",
    tags: dict[str, str] | None = None,
    signature: str = "",
) -> Release:
    """Register a package as the next version of its name.

    `signature` is the digest of the package's signature. Return the existing release if the package is the newest
    version of this environment already, or was registered by the same run.

    Raises
    ------
    Conflict
        if other processes register versions of the same name at the same time, again and again.
    """
    name = model.manifest.name
    for existing in books.releases.find(run=run, package=package) if run else ():
        return existing
    for _ in range(_ATTEMPTS):
        earlier = books.releases.find(name=name)
        newest = max(earlier, key=lambda release: release.version, default=None)
        here = [release for release in earlier if release.environment == environment]
        newest_here = max(here, key=lambda release: release.version, default=None)
        if newest_here is not None and newest_here.package == package:
            return newest_here
        release = Release(
            id=clock.mint(),
            name=name,
            version=newest.version + 1 if newest else 1,
            package=package,
            flavor=model.manifest.flavor,
            environment=environment,
            created=clock.now(),
            run=run,
            metrics=order_metrics(model.manifest.metrics),
            tags=tags or {},
            data=model.manifest.data,
            signature=signature,
        )
        try:
            with books.transaction(durable=True):
                books.releases.add(release)
        except Conflict:
            continue
        maybe_crash("release is registered")
        return release
    raise Conflict(
        f"the release of model {name!r} could not be registered: other processes add versions", "run it again"
    )


def add_signature(books: Books, label: str, signature: str) -> Release:
    """Set the signature of a release, by its digest."""
    release = find_release(books, label)
    with books.transaction(durable=True):
        return books.releases.change(release.id, lambda current: replace(current, signature=signature))


def tag(books: Books, label: str, tags: dict[str, str]) -> Release:
    """Set tags of a release; an empty value removes a tag."""
    release = find_release(books, label)
    return books.releases.change(
        release.id,
        lambda current: replace(current, tags={name: value for name, value in (current.tags | tags).items() if value}),
    )
