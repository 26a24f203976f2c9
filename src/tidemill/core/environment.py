"""Environment: where pipelines run and models serve, and the rules for the builds that are deployed there."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from tidemill.clock import DurationText
from tidemill.core.metric import Threshold

TARGETS = ("local", "container", "kubernetes", "ray")
"""The targets that come with Tidemill; another package adds one as an entry point of `tidemill.targets`."""

PromotionRule = Literal["branch", "approvals", "runs", "soak", "thresholds", "data", "freeze", "paused", "audit"]
"""The rules that a person can override for a time. No person can override the state of a build or its verification."""

CONTROL = "ci"
"""The environment of the runs that build and deploy: its daemon starts and supervises the processes of the others."""

DELIVERY_PIPELINES = ("ci", "deployment", "upgrade")
"""The pipelines that run in that environment, and only there."""


class Load(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The load test of a service before it gets requests: requests arrive at a fixed rate, whatever the service does.

    Attributes
    ----------
    rate
        The requests a second; 0 is no load test.
    seconds
        How long they arrive.
    p50_ms
        The most time of a request, as the median, from its planned arrival.
    p99_ms
        The most time of a request, as the 99th percentile.
    errors
        The largest share of requests that fail.
    """

    rate: Annotated[float, Meta(ge=0)] = 0.0
    seconds: Annotated[float, Meta(gt=0)] = 5.0
    p50_ms: Annotated[float, Meta(gt=0)] | None = None
    p99_ms: Annotated[float, Meta(gt=0)] | None = None
    errors: Annotated[float, Meta(ge=0, le=1)] = 0.0


class Environment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An environment, such as `test`, `preproduction` or `production`: a table `[environments.NAME]`.

    Attributes
    ----------
    kind
        The kind.
    branch
        The branches whose passed builds are deployed here automatically, such as `"main"` or `"dev/*"`. Without it, a
        person promotes builds.
    after
        The environment in which a build must run before it is deployed here.
    runs
        How many successful runs of `pipeline` a build needs there.
    pipeline
        The pipeline that starts when a build is deployed, and whose runs are counted.
    soak
        How long a build must have been healthy there.
    thresholds
        Limits of the metrics of the newest successful run there, such as `roc_auc = ">= 0.7"`, on its test rows.
    valid_data
        Whether the newest batch of each source there must be accepted: no file or table is stopped by its schema.
    approvals
        How many different people must approve a build. The people who wrote its commits since the last deployment here,
        and the person who pushed them, do not count.
    approvers
        Who can approve; everyone by default.
    freeze
        Times without deployments, such as `"fri 16:00 - mon 08:00"` or `"2026-12-20 - 2027-01-02"`.
    zone
        The time zone of `freeze`.
    target
        Where the build runs: `local` (processes on this machine), `container`, `kubernetes`, `ray` (a job), or a target
        of another package.
    port
        The port of the prediction service; 0 is a free port.
    hosts
        The host names under which clients reach the service and the pages, such as `"models.example.org"`. Addresses,
        names without a dot and localhost are accepted without it, and every name where each request needs a token.
    host
        The address of the prediction service. Any address but loopback needs tokens, and TLS or a proxy.
    tls_cert
        The certificate of the service with its chain, as a PEM file; a relative path is one in the project's folder.
    tls_key
        The private key of the certificate, as a PEM file.
    behind_proxy
        Whether a proxy in front of the service ends TLS; every request needs a token.
    data
        The folder of the files that relative paths of sources name; by default the folder of the project.
    python
        The least version of Python, such as `"3.11"`.
    memory_mb
        The memory that must be available for the service; it is also the limit of its process.
    accelerator
        Whether the environment must have an accelerator, such as a GPU.
    signed
        Whether only signed model packages are loaded, and only signed container images started.
    load
        The load test of a new service.
    variables
        Environment variables for the deployed processes.
    """

    kind: Literal["test", "preproduction", "production"] = "production"
    branch: str = ""
    after: str = ""
    runs: Annotated[int, Meta(ge=0)] = 0
    pipeline: str = "training"
    soak: DurationText = "0s"
    thresholds: dict[str, Threshold] = {}
    valid_data: bool = False
    approvals: Annotated[int, Meta(ge=0)] = 0
    approvers: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()
    zone: str = "UTC"
    target: str = "local"
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    hosts: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    tls_cert: str = ""
    tls_key: str = ""
    behind_proxy: bool = False
    data: str = ""
    python: str = ""
    memory_mb: Annotated[int, Meta(gt=0)] | None = None
    accelerator: bool = False
    signed: bool = False
    load: Load = Load()
    variables: dict[str, str] = {}
