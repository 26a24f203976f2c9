"""`models sign`, `models verify`: signatures of releases, in the format of OpenSSF model-signing."""

from pathlib import Path
from typing import Annotated

import typer

from tidemill.access.roles import DECIDE
from tidemill.cli import output
from tidemill.cli.decisions import Reason, export_audit_head, record_decision
from tidemill.cli.models import LabelArgument, models
from tidemill.cli.session import EnvironmentOption, Json, load_session, require_actor
from tidemill.errors import ConfigurationError


@models.command("sign")
def sign(label: LabelArgument, reason: Reason = "", env: EnvironmentOption = "production") -> None:
    """Sign a release with the key of the policy, such as one that was registered before there was a key."""
    from tidemill.core.signing import PackageSigner
    from tidemill.host.keys import CREATE_KEY
    from tidemill.ledger.releases import find_release
    from tidemill.registry.releases import add_signature

    session = load_session(env)
    actor = require_actor(session, DECIDE)
    release = find_release(session.workspace.ledger, label)
    signature = session.resource(PackageSigner).sign(session.packages.load(release.package))
    if not signature:
        raise ConfigurationError("the project has no private key", f"set key under [signing]; {CREATE_KEY}")
    with session.workspace.ledger.transaction(durable=True):
        add_signature(session.workspace.ledger, release.label, signature)
        record_decision(session, "signed", release.label, reason, actor)
    export_audit_head(session)
    output.out.print(f"{release.label} is signed; to load it where signatures are required, promote it")


@models.command("verify")
def verify(
    label: LabelArgument,
    public_key: Annotated[Path | None, typer.Option(help="The public key (PEM). Default: that of the policy.")] = None,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Verify the signature of a release: that no file of its package was changed since, and who signed it."""
    from tidemill.compose.signing import KeySigner
    from tidemill.host.keys import fingerprint, parse_public_key, read_public_key, to_pem
    from tidemill.ledger.releases import find_release

    session = load_session(env)
    release = find_release(session.workspace.ledger, label)
    signer = KeySigner(session.project, session.workspace)
    given = to_pem(read_public_key(public_key)) if public_key is not None else b""
    key = signer.require_signature(session.packages.load(release.package), release.signature, release.label, given)
    signed_by = fingerprint(parse_public_key(key, "public_key"))
    if json:
        output.print_json({"release": release.label, "package": release.package, "key": signed_by})
    else:
        output.out.print(f"{release.label} is signed by the key {signed_by[:16]}, and unchanged since")
