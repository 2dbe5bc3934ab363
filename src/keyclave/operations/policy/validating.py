"""policy-validate: everything that is wrong with a bundle, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave.core.errors import Malformed, TooLarge
from keyclave.operations.attempt import Attempt
from keyclave.operations.forms import Answer
from keyclave.operations.keyring import LoadedKey
from keyclave.operations.policy.forms import BundleRequest, bundle_of

if TYPE_CHECKING:
    from keyclave.operations.desk import Desk

_MOST = 200  # findings that are shown


class ValidateAnswer(Answer, kw_only=True, omit_defaults=False):
    """`findings` name file or policy and what is wrong; none: the bundle could be applied. `policies` were read."""

    valid: bool
    digest: str
    policies: int
    findings: list[str]


def validate(desk: Desk, attempt: Attempt, _key: LoadedKey | None, request: BundleRequest) -> ValidateAnswer:
    """Read and validate a bundle, without regard to what is in force."""
    compiler = desk.access.revisions.compiler
    bundle = bundle_of(request.files)
    try:
        policies, findings = compiler.findings(bundle)
    except TooLarge:
        raise
    except Malformed as fault:
        return ValidateAnswer(valid=False, digest=bundle.digest().hex(), policies=0, findings=[f"{fault.detail}: {fault.hint}"])
    attempt.count = max(1, policies)
    return ValidateAnswer(valid=not findings, digest=bundle.digest().hex(), policies=policies, findings=findings[:_MOST])
