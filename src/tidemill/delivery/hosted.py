"""Files for hosted CI, GitHub Actions and GitLab CI, which run `tidemill ci run` on each push."""

from typing import Literal

from msgspec import Struct

Service = Literal["github", "gitlab"]

_GITHUB = """\
# Builds each push and each pull request of {project}. Written by `tidemill ci generate github`.
name: tidemill
on:
  push:
    branches: [{branches}]
  pull_request:
permissions:
  contents: read
concurrency:
  group: tidemill-${{{{ github.ref }}}}
  cancel-in-progress: false
jobs:
  build:
    runs-on: ubuntu-latest
    timeout-minutes: {minutes}
    steps:
      - uses: actions/checkout@v4
        with:
          ref: ${{{{ github.event.pull_request.head.sha || github.sha }}}}
          fetch-depth: 0
          persist-credentials: false
      - uses: actions/setup-python@v5
        with:
          python-version: "{python}"
      - run: python -m pip install "tidemill[delivery]=={version}"
      - name: Build the commit
        env:
          BRANCH: ${{{{ github.head_ref || github.ref_name }}}}
        run: |
          git checkout -q -B "$BRANCH"
          tidemill ci run --remote "$GITHUB_WORKSPACE" --branch "$BRANCH"
{folder}      - run: tidemill ci export --to build
{folder}      - uses: actions/upload-artifact@v4
        with:
          name: tidemill-build
          path: {path}build
"""
_GITLAB = """\
# Builds each push and each merge request of {project}. Written by `tidemill ci generate gitlab`.
tidemill:
  image: python:{python}-slim
  timeout: {minutes} minutes
  rules:
    - if: $CI_PIPELINE_SOURCE == "merge_request_event"
    - if: $CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS
      when: never
    - if: $CI_COMMIT_BRANCH
  variables:
    GIT_DEPTH: "0"
    GIT_SUBMODULE_STRATEGY: none
    XDG_CACHE_HOME: $CI_PROJECT_DIR/.cache
  cache:
    key:
      files: [{lock}]
    paths: [.cache/uv]
  before_script:
    - apt-get update -qq && apt-get install -y -qq --no-install-recommends git libgomp1
    - python -m pip install "tidemill[delivery]=={version}"
  script:
    - BRANCH="${{CI_MERGE_REQUEST_SOURCE_BRANCH_NAME:-$CI_COMMIT_BRANCH}}"
    - git checkout -q -B "$BRANCH"
{folder}    - tidemill ci run --remote "$CI_PROJECT_DIR" --branch "$BRANCH"
    - tidemill ci export --to build
  artifacts:
    when: always
    paths: [{path}build]
"""


class HostedFile(Struct, frozen=True, kw_only=True):
    """A file of hosted CI, with its path in the repository."""

    path: str
    text: str


def write_hosted_file(
    service: Service, *, project: str, folder: str, lock: str, branches: tuple[str, ...], python: str, version: str
) -> HostedFile:
    """Return the file that runs CI at a service for the project in a folder of its repository.

    Values of the event, such as the name of a branch, reach the shell only as environment variables.
    """
    path = f"{folder}/" if folder else ""
    values = {"project": project, "python": python, "version": version, "minutes": 60, "path": path}
    if service == "github":
        listed = ", ".join(f'"{"**" if pattern == "*" else pattern}"' for pattern in branches)
        entry = f"        working-directory: {folder}\n" if folder else ""
        return HostedFile(
            path=".github/workflows/tidemill.yml", text=_GITHUB.format(branches=listed, folder=entry, **values)
        )
    entry = f'    - cd "{folder}"\n' if folder else ""
    return HostedFile(path=".gitlab-ci.yml", text=_GITLAB.format(folder=entry, lock=f"{path}{lock}", **values))
