"""Releases: versions of a model under a name."""

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.model import Model
from tidemill.core.release import Release
from tidemill.core.resources import Books
from tidemill.errors import Conflict
from tidemill.faults import maybe_crash
from tidemill.ledger.releases import find_release

_TRIES = 50


def register(
    books: Books,
    clock: Clock,
    model: Model,
    package: str,
    *,
    environment: str,
    run: str = "",
    tags: dict[str, str] | None = None,
) -> Release:
    """Give a package the next version of its name; one that is the newest already, or of the same run, stays that."""
    name = model.manifest.name
    for again in books.releases.find(run=run, package=package) if run else ():
        return again
    for _ in range(_TRIES):
        earlier = books.releases.find(name=name)
        newest = max(earlier, key=lambda release: release.version, default=None)
        if newest is not None and newest.package == package:
            return newest
        release = Release(
            id=clock.mint(),
            name=name,
            version=newest.version + 1 if newest else 1,
            package=package,
            flavor=model.manifest.flavor,
            environment=environment,
            created=clock.now(),
            run=run,
            metrics=model.manifest.metrics,
            tags=tags or {},
            data=model.manifest.data,
        )
        try:
            with books.transaction(durable=True):
                books.releases.add(release)
        except Conflict:
            continue
        maybe_crash("release is registered")
        return release
    raise Conflict(f"releases of {name!r} keep being added", "try again")


def tag(books: Books, label: str, tags: dict[str, str]) -> Release:
    """Put tags on a release; an empty value takes one away."""
    release = find_release(books, label)
    return books.releases.change(
        release.id,
        lambda r: replace(r, tags={name: value for name, value in (r.tags | tags).items() if value}),
    )
