"""The packages of a build besides its wheel: executable, lock, bills of material, and the Tidemill that tested it."""

import hashlib
from collections.abc import Mapping

from msgspec import Struct

from tidemill.core.ci import BuildHost, Ci
from tidemill.delivery.bom import BomSubject, read_licenses, write_ml_bom, write_sbom
from tidemill.delivery.checkout import Checkout, read_project_policy
from tidemill.delivery.environment import BuildEnvironment, find_environment
from tidemill.delivery.executable import write_executable
from tidemill.delivery.wheel import write_running_wheel
from tidemill.errors import TidemillError


class Packages(Struct, frozen=True, kw_only=True):
    """The bytes of each package."""

    executable: bytes
    lock: bytes
    sbom: bytes
    ml_bom: bytes
    tidemill: bytes


def make_packages(
    ci: Ci,
    host: BuildHost,
    checkout: Checkout,
    files: Mapping[str, bytes],
    wheel: bytes,
    environment: BuildEnvironment,
) -> Packages:
    """Make the packages of a commit; equal commits in equal environments result in equal bytes.

    Raises
    ------
    TidemillError
        if the running Tidemill is not the one that tested the commit.
    """
    subject = BomSubject(
        project=checkout.project, commit=checkout.commit, date=checkout.date, python=environment.python
    )
    licenses = read_licenses(find_environment(host, environment))
    needs = environment.runtime
    name, tidemill = write_running_wheel()
    if hashlib.sha256(tidemill).hexdigest() != environment.tidemill:
        raise TidemillError("the code of Tidemill was changed while CI ran", "run CI again: `tidemill ci run --force`")
    return Packages(
        executable=write_executable(checkout.project, wheel, (name, tidemill), needs, environment.deployed),
        lock=files.get("uv.lock") or files.get(ci.lock, b""),
        sbom=write_sbom(subject, environment.deployed, environment.system, licenses),
        ml_bom=write_ml_bom(subject, read_project_policy(files, host.folder)),
        tidemill=tidemill,
    )
