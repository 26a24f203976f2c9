"""Build: a release of the pipeline, made from a commit of the project by CI."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

BuildState = Literal["passed", "refused", "error"]
"""`refused`: a test or a check failed; `error`: it could not be judged, such as with a lock that does not resolve."""


class Build(Struct, frozen=True, kw_only=True):
    """Build `number` of the project: what CI made from `commit`, and whether it passed.

    A build is deployed to an environment, where the pipeline then runs and trains models. Only a build in the state
    `passed` can be deployed. `number` starts at 1 and is unique in a project; a commit can be built again.

    Attributes
    ----------
    commit
        The full id of the commit.
    branch
        The branch of the push, without `refs/heads/`.
    base
        The commit of the last passed build of that branch; empty if there is none. `authors` are counted from it.
    authors
        The e-mail addresses of the authors and committers of the commits since `base`.
    pusher
        The authenticated person who pushed; empty if unknown.
    state
        Whether it passed.
    run
        The CI run, with its verdicts.
    code
        The digest of the project's code.
    policy
        The digest of the policy in `tidemill.toml`.
    lock
        The digest of the lock.
    python
        The version of Python, such as `3.11.2`.
    packages
        The version of each package of the environment.
    system
        The system libraries that the environment depends on, with their versions.
    artifacts
        The digest of each artifact: `source` (the files at the commit), `wheel`, `executable`, `sbom`, `ml-bom`,
        `tidemill` (the wheel of the Tidemill that tested it, which also runs it), ….
    image
        The digest of the container image, as the registry or the builder states it; empty if none was built.
    reason
        Why it was refused, or could not be judged.
    """

    id: str
    project: str
    number: int
    commit: str
    state: BuildState
    created: datetime
    environment: str
    branch: str = ""
    base: str = ""
    authors: tuple[str, ...] = ()
    pusher: str = ""
    run: str = ""
    code: str = ""
    policy: str = ""
    lock: str = ""
    python: str = ""
    packages: dict[str, str] = {}
    system: dict[str, str] = {}
    artifacts: dict[str, str] = {}
    image: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        """Return the name for display, such as `flights@12 (4f2a91c)`."""
        return f"{self.project}@{self.number} ({self.commit[:7]})"

    def subject(self, environment: str) -> str:
        """Return the subject of decisions about this build in an environment."""
        return f"build/{self.id} → {environment}"
