"""Whether the log, as it stands, continues what was verified here before: by its checkpoint and a proof, without fetching it."""

from __future__ import annotations

import base64

from keyclave_cli.diagnosis.finding import Finding, fail, ok, skipped, warn
from keyclave_cli.record.export import newest_checkpoint, read_served_checkpoint
from keyclave_cli.record.trust import TrustedRecord
from keyclave_client import Client
from keyclave_client.errors import KeyclaveError, Refused, Sealed, Unauthenticated
from keyclave_verify.checkpoints import Checkpoint, Trust, parse_checkpoint, signature_faults
from keyclave_verify.receipts import verify_consistency

_CHECK = "record"
_EVIDENCE = "do not overwrite anything: export it with `keyclave audit export`, and tell the auditors"


def check_continuation(client: Client) -> Finding:
    """Return the finding on the served checkpoint; one that holds and is proven to continue is kept as the newest."""
    try:
        keys = client.log_keys()
        raw = newest_checkpoint(client)
    except Sealed:
        return skipped(_CHECK, "a sealed server serves no checkpoint")
    record = TrustedRecord(keys.origin)
    trusted = record.trust(keys.origin, keys.vkeys)
    now = read_served_checkpoint(raw)
    faults = signature_faults(now, trusted.trust)
    if faults:
        return fail(_CHECK, faults[0].detail, _EVIDENCE)
    kept = record.checkpoint()
    if kept is None:
        record.keep(raw)
        return ok(_CHECK, f"{now.size:,} events, signed; kept as the first checkpoint seen here")
    before = parse_checkpoint(kept, "the checkpoint kept here")
    return _compare(client, record, trusted.trust, before, now, raw)


def _compare(client: Client, record: TrustedRecord, trust: Trust, before: Checkpoint, now: Checkpoint, raw: bytes) -> Finding:
    if before.size in (0, now.size):
        proof: list[bytes] = []
    elif before.size > now.size:
        said = f"the log has {now.size:,} events, but {before.size:,} were signed before: the tail is gone"
        return fail(_CHECK, said, _EVIDENCE)
    else:
        try:
            proof = client.consistency(before.size, now.size)
        except (Refused, Unauthenticated):
            said = f"{now.size:,} events, signed; that they continue the {before.size:,} kept here is for an auditor to check"
            return warn(_CHECK, said, "run `keyclave audit verify` with an auditor's credential")
        except KeyclaveError as error:
            return fail(
                _CHECK, f"no proof that the log continues: {error.detail}", "run `keyclave audit verify` to see where it differs"
            )
    report = verify_consistency(before, now, trust, "\n".join(base64.b64encode(node).decode() for node in proof).encode())
    if not report.good:
        return fail(_CHECK, report.faults[0].detail, _EVIDENCE)
    record.keep(raw)
    return ok(_CHECK, f"{now.size:,} events, signed, and the continuation of the {before.size:,} known here")
