"""The page of builds: what serves each environment, the builds, and the deployments, with the decisions about them."""

from tidemill.core.deployment import EnvironmentStatus
from tidemill.web import view
from tidemill.web.reading import Query, Site, read_page
from tidemill.web.view import Cell, Offer, Page, PageTable

_SHOWN = 20


def builds(site: Site, query: Query) -> Page:
    """Show the environments, the builds and the newest deployments."""
    statuses = site.read_environments() if site.read_environments else []
    page = read_page(site.books.builds, query)
    by_id = {build.id: build for build in site.books.builds.find()}
    deployments = site.books.deployments.find(newest=True, limit=_SHOWN)
    environments = [
        [
            Cell(status.environment),
            Cell(status.serving),
            view.time(status.since) if status.since else Cell(""),
            Cell(status.address, "mono"),
            Cell(status.next_build),
            view.text(status.missing),
        ]
        for status in statuses
    ]
    rows = [
        [
            Cell(build.label),
            view.badge({"passed": "pass", "refused": "fail"}.get(build.state, build.state)),
            Cell(build.branch),
            view.text(", ".join(build.authors)),
            view.time(build.created),
            view.digest(build.artifacts.get("wheel", "")),
            view.link("runs", build.run, "CI") if build.run else Cell(""),
            view.text(build.reason),
        ]
        for build in page.records
    ]
    deployed = [
        [
            Cell(f"{each.environment} {each.version}"),
            Cell(by_id[each.build].label if each.build in by_id else each.build),
            view.badge({"healthy": "done"}.get(each.state, each.state)),
            Cell(each.change),
            Cell(each.by),
            view.time(each.time),
            view.text(each.problem or each.reason),
        ]
        for each in deployments
    ]
    return Page(
        title="Builds",
        lead="What CI made from each commit, and where it runs.",
        data={"environments": statuses, "builds": page.records, "deployments": deployments},
        parts=[
            PageTable(
                "Environments",
                ("environment", "serves", "since", "address", "next build", "it lacks"),
                environments,
                "tidemill.toml has no [environments].",
            ),
            PageTable(
                "Builds",
                ("build", "CI", "branch", "authors", "built", "wheel", "run", "reason"),
                rows,
                "There is no build yet: push to a watched branch, or `tidemill ci run`.",
            ),
            PageTable(
                "Deployments",
                ("environment", "build", "state", "change", "by", "time", "reason"),
                deployed,
                "Nothing is deployed yet.",
            ),
        ],
        older=page.older,
        offers=[offer for status in statuses for offer in _list_offers(status)],
    )


def _list_offers(status: EnvironmentStatus) -> list[Offer]:
    """Return the decisions on the next build of an environment."""
    if not status.next_build:
        return []
    subject = f"{status.next_number} → {status.environment}"
    about = f"{status.next_build} for {status.environment}."
    if status.missing:
        return [Offer("approve-build", "Approve", subject, f"{about} It lacks: {status.missing}")]
    return [Offer("promote-build", "Deploy", subject, f"{about} It meets all rules.")]
