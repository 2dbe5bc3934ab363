"""A row for every table, another one that could stand beside it, and for every CHECK what breaks it and no other rule.

`FIRST` is in the order in which references allow it. What is not named in `SECOND` is as in `FIRST`.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def digest(letter: str) -> bytes:
    """Return bytes as long as SHA-256 gives them."""
    return letter.encode() * 32


FIRST: dict[str, Row] = {
    "meta": {"name": "m", "value": b"v"},
    "tenants": {"id": "t", "name": "first", "home": True, "created_at": 1},
    "tenant_keys": {"tenant": "t", "duty": "operational", "sealed": b"s", "created_at": 1},
    "principals": {"tenant": "t", "name": "ann", "role": "custodian", "created_at": 1, "kind": "person"},
    "credentials": {
        "id": "c1", "tenant": "t", "principal": "ann", "digest": digest("c"), "created_at": 1, "created_by": "q", "expires_at": 9,
    },
    "idempotency": {"tenant": "t", "principal": "p", "key": "k", "request": b"r", "response": b"s", "created_at": 1},
    "keys": {
        "id": "k1", "tenant": "t", "name": "n", "spec": "aes-256", "purpose": "encrypt", "owner": "o", "environment": "e",
        "classification": "ePHI", "location": "software", "tags": "{}", "cryptoperiod": "{}", "created_at": 1, "created_by": "p",
        "rev": 1,
    },
    "key_versions": {
        "key_id": "k1", "number": 1, "is_primary": True, "state": "active", "origin": "generated", "kcv": "abc", "created_at": 1,
        "activated_at": 1, "sealed": b"material", "used": 0,
    },
    "segments": {"first": 0, "count": 1, "node": "n1", "node_first": 0},
    "journal": {"node": "n1", "first": 0, "count": 1, "entries": b"\x00\x01x"},
    "log_tiles": {"level": 0, "number": 0, "hashes": bytes(8192)},
    "checkpoints": {"size": 1, "root": bytes(32), "note": "n", "created_at": 1},
    "changes": {"n": 1, "node": "n1", "at": 1, "names": "[]"},
    "nodes": {
        "id": "n1", "address": "a", "version": "1", "schema": "1", "started_at": 1, "seen_at": 1, "applied": 0, "lease_until": 1,
        "skew": 0, "sealed": False, "draining": False,
    },
    "leases": {"name": "l", "holder": "n1", "fence": 1, "until": 1},
    "moments": {
        "kind": "claim", "name": digest("m"), "code": digest("n"), "owner": "t", "count": 1, "held": b"", "made_at": 1, "expires_at": 9,
    },
    "policy_revisions": {
        "tenant": "t", "number": 1, "files": "{}", "digest": digest("p"), "applied_at": 1, "applied_by": "q", "approval": "",
    },
    "share_holders": {
        "number": 1, "set_id": "s", "share": 1, "tenant": "t", "principal": "ann", "since": 1, "named_by": "ceremony", "event": "e",
    },
    "acts": {
        "number": 1, "tenant": "t", "kind": "key", "subject": "k1", "action": "key-create", "principal": "ann", "at": 1, "event": "e",
    },
    "approvals": {
        "id": "apr", "tenant": "t", "operation": "destroy", "requester": "ann", "canonical": b"c", "digest": digest("a"),
        "requested_at": 1, "expires_at": 9, "event": "e",
    },
    "approval_signatures": {
        "approval": "apr", "approver": "bob", "authenticator": "a", "statement": "s", "proof": "p", "signed_at": 2, "event": "e",
    },
    "authenticators": {
        "id": "aut", "tenant": "t", "principal": "ann", "kind": "passkey", "label": "", "public": b"cose", "handle": b"h1", "aal": 3,
        "aaguid": "", "backup_eligible": False, "sign_count": 0, "failures": 0, "enrolled_at": 1,
    },
    "recovery_codes": {"authenticator": "aut", "digest": digest("r")},
    "invitations": {
        "id": "inv", "tenant": "t", "digest": digest("i"), "principal": "bob", "role": "auditor", "roles": "[]", "invited_by": "ann",
        "invited_at": 1, "expires_at": 9,
    },
    "memberships": {"id": "mem", "tenant": "t", "principal": "ann", "role": "night", "given_by": "bob", "given_at": 1},
    "sessions": {
        "id": "ses", "tenant": "t", "principal": "ann", "digest": digest("s"), "aal": 3, "how": "passkey", "authenticator": "aut",
        "enrolling": False, "invitation": "", "source": "", "created_at": 1, "expires_at": 9, "idle_seconds": 900, "seen_at": 1,
        "stepped_up_at": 1,
    },
    "ceremonies": {"digest": digest("x"), "kind": "login", "tenant": "t", "payload": "", "expires_at": 9},
    "authorities": {
        "id": "ca", "tenant": "t", "number": 1, "domain": "x", "spec": "ecdsa-p256", "certificate": b"c", "sealed": b"s",
        "created_at": 1, "created_by": "q", "not_after": 9,
    },
    "workloads": {"id": "w", "tenant": "t", "name": "spiffe://x/a", "scope": "{}", "created_at": 1, "created_by": "q"},
    "enrolments": {
        "id": "enr", "tenant": "t", "digest": digest("e"), "name": "spiffe://x/a", "uses": 2, "used": 1, "created_at": 1,
        "created_by": "q", "expires_at": 9,
    },
    "certificates": {
        "id": "crt", "tenant": "t", "authority": "ca", "serial": "1", "thumbprint": digest("t"), "name": "n", "source": "e",
        "not_before": 1, "not_after": 9,
    },
    "blocked_certificates": {"tenant": "t", "id": "b", "blocked_at": 1, "blocked_by": "q"},
    "bindings": {"credential": "c1", "thumbprint": digest("t"), "certificate": "crt"},
    "renewals": {"credential": "c1", "renewed": "c1", "first_at": 1},
    "grants": {
        "id": "grn", "tenant": "t", "grantee": "ann", "operations": "[]", "keys": "[]", "context": "{}", "exact": False, "purposes": "[]",
        "networks": "[]", "delegate": False, "parent": None, "depth": 1, "uses": 5, "remaining": 5, "counted": True, "created_at": 1,
        "created_by": "q", "expires_at": 9,
    },
    "eligibilities": {
        "id": "eli", "tenant": "t", "principal": None, "tag": b"t", "sealed": b"s", "role": "break-glass", "created_at": 1,
        "created_by": "q", "expires_at": 9,
    },
    "elevations": {
        "id": "elv", "tenant": "t", "principal": "ann", "credential": "c1", "role": "break-glass", "duty": "application",
        "eligibility": "eli", "reason": "r", "reach": "{}", "started_at": 1, "ends_at": 9, "review_due_at": 9,
    },
    "alarms": {"id": "alm", "tenant": "t", "recipient": "bob", "kind": "break-glass", "elevation": "elv", "raised_at": 1},
}  # fmt: skip
"""`change_counter` has its one row from the first migration on."""

SECOND: dict[str, Row] = {
    "meta": {"name": "m2"},
    "tenants": {"id": "t2", "name": "second", "home": False},
    "tenant_keys": {"duty": "archive"},
    "principals": {"name": "bob"},
    "credentials": {"id": "c2", "digest": digest("d")},
    "idempotency": {"key": "k2"},
    "keys": {"id": "k2", "name": "n2"},
    "key_versions": {"number": 2, "is_primary": False},
    "segments": {"first": 1, "node": None, "node_first": None, "entries": b"\x00\x01y"},
    "journal": {"first": 1},
    "log_tiles": {"number": 1},
    "checkpoints": {"size": 2},
    "changes": {"n": 2},
    "nodes": {"id": "n2"},
    "leases": {"name": "l2"},
    "moments": {"name": digest("o"), "code": digest("p")},
    "policy_revisions": {"number": 2},
    "share_holders": {"number": 2, "share": 2},
    "acts": {"number": 2},
    "approvals": {"id": "apr2", "digest": digest("b")},
    "approval_signatures": {"approver": "cid"},
    "authenticators": {"id": "aut2", "handle": b"h2"},
    "recovery_codes": {"digest": digest("q")},
    "invitations": {"id": "inv2", "digest": digest("j"), "confirmed_by": "cid", "confirmed_at": 2, "used_at": 3},
    "memberships": {"id": "mem2", "role": "day"},
    "sessions": {"id": "ses2", "digest": digest("z")},
    "ceremonies": {"digest": digest("y")},
    "authorities": {"id": "ca2", "number": 2},
    "workloads": {"id": "w2", "name": "spiffe://x/b"},
    "enrolments": {"id": "enr2", "digest": digest("f")},
    "certificates": {"id": "crt2", "serial": "2", "thumbprint": digest("u")},
    "blocked_certificates": {"id": "b2"},
    "bindings": {"credential": "c2"},
    "renewals": {"credential": "c2", "renewed": "c2"},
    "grants": {"id": "grn2", "parent": "grn", "depth": 2},
    "eligibilities": {"id": "eli2"},
    "elevations": {"id": "elv2", "principal": "bob", "credential": "c2"},
    "alarms": {"id": "alm2"},
}
NEEDS = {"bindings": "credentials", "renewals": "credentials"}
"""Whose second row refers to the second row of another table."""

GONE = {"state": "destroyed", "sealed": None, "destroyed_at": 5}
ENDED = {"ending": "executed", "ended_at": 5, "ended_by": "bob", "ended_event": "f"}
REVIEWED = {"reviewed_at": 5, "reviewed_by": "cid", "verdict": "justified"}
CODES = {"kind": "totp", "aal": 1, "public": None, "handle": None, "sealed": b"s"}

BREAKS: dict[str, list[Row]] = {
    "ck_alarms_kind": [{"kind": "fire"}],
    "ck_approvals_digest": [{"digest": b"short"}, {"digest": digest("b") + b"b"}],
    "ck_approvals_ended_at_a_time": [{**ENDED, "ended_at": None}, {"ended_at": 5}],
    "ck_approvals_ended_by_somebody": [{**ENDED, "ended_by": None}, {"ended_by": "bob"}],
    "ck_approvals_ended_with_its_event": [{**ENDED, "ended_event": None}, {"ended_event": "f"}],
    "ck_approvals_ending": [{**ENDED, "ending": "forgotten"}],
    "ck_approvals_window": [{"expires_at": 1}, {"expires_at": 0}],
    "ck_approvals_withdrawn_by_the_requester": [{**ENDED, "ending": "withdrawn"}],
    "ck_approvals_withdrawn_not_denied_by_the_requester": [{**ENDED, "ending": "denied", "ended_by": "ann"}],
    "ck_authenticators_aal": [{"aal": 4}, {"aal": 0}],
    "ck_authenticators_handle": [{"handle": None}, {**CODES, "handle": b"h"}],
    "ck_authenticators_kind": [{**CODES, "kind": "smile", "sealed": None}],
    "ck_authenticators_public": [{"public": None}, {**CODES, "public": b"cose"}],
    "ck_authenticators_revoked_for_a_reason": [{"revoked_at": 5}, {"revoked_why": "lost"}],
    "ck_authenticators_sealed": [{**CODES, "sealed": None}, {"sealed": b"s"}],
    "ck_authenticators_synced_is_never_the_highest": [{"backup_eligible": True}],
    "ck_authorities_number": [{"number": 0}],
    "ck_bindings_thumbprint": [{"thumbprint": b"short"}],
    "ck_ceremonies_digest": [{"digest": b"short"}],
    "ck_certificates_thumbprint": [{"thumbprint": b"short"}],
    "ck_change_counter_one_row": [{"id": 2, "n": 0}],
    "ck_elevations_break_glass_is_reviewed": [{"review_due_at": None}, {"role": "operator"}],
    "ck_elevations_ended_by_somebody": [{"ended_at": 5}, {"ended_by": "bob"}],
    "ck_elevations_ends": [{"ends_at": 1}, {"ends_at": 0}],
    "ck_elevations_reviewed_by_another": [{**REVIEWED, "reviewed_by": "bob"}],
    "ck_elevations_reviewed_by_somebody": [{**REVIEWED, "reviewed_by": None}, {"reviewed_by": "cid"}],
    "ck_elevations_reviewed_with_a_verdict": [{**REVIEWED, "verdict": None}, {"verdict": "justified"}],
    "ck_elevations_verdict": [{**REVIEWED, "verdict": "perhaps"}],
    "ck_eligibilities_named_or_sealed": [{"principal": "bob", "tag": None, "sealed": None}, {"role": "operator"}],
    "ck_eligibilities_revoked_by_somebody": [{"revoked_at": 5}, {"revoked_by": "bob"}],
    "ck_eligibilities_sealed_when_not_named": [{"tag": None, "sealed": None}, {"role": "operator", "principal": "bob"}],
    "ck_eligibilities_tagged_when_sealed": [{"tag": None}, {"role": "operator", "principal": "bob", "sealed": None}],
    "ck_enrolments_digest": [{"digest": b"short"}],
    "ck_enrolments_never_more_than_its_uses": [{"used": 3}, {"used": -1}, {"uses": 0, "used": 0}],
    "ck_grants_counted": [{"counted": False}],
    "ck_grants_counted_from_the_start": [{"remaining": None}, {"uses": None}],
    "ck_grants_depth": [{"depth": 0}],
    "ck_grants_end": [{"end": "lost", "ended_at": 5, "ended_by": "q"}],
    "ck_grants_ended_by_somebody": [{"end": "revoked", "ended_at": 5}, {"ended_by": "q"}],
    "ck_grants_ended_somehow": [{"ended_at": 5, "ended_by": "q"}, {"end": "revoked"}],
    "ck_grants_never_below_nothing": [{"remaining": -1}, {"remaining": 6}],
    "ck_invitations_by_two": [{"confirmed_by": "ann"}],
    "ck_invitations_confirmed": [{"confirmed_by": None}, {"confirmed_at": None, "used_at": None}],
    "ck_invitations_not_oneself": [{"principal": "ann"}, {"confirmed_by": "bob"}],
    "ck_invitations_people": [{"role": "application"}],
    "ck_invitations_used_once_confirmed": [{"confirmed_by": None, "confirmed_at": None}],
    "ck_journal_count": [{"count": 0}],
    "ck_journal_first": [{"first": -1}],
    "ck_key_versions_active_has_its_date": [{"activated_at": None}],
    "ck_key_versions_gone_has_its_date": [{**GONE, "destroyed_at": None}, {"destroyed_at": 5}],
    "ck_key_versions_gone_has_no_material": [{**GONE, "sealed": b"m"}, {"sealed": None}, {**GONE, "state": "destroyed-compromised", "sealed": b""}],
    "ck_key_versions_number": [{"number": 0}],
    "ck_key_versions_origin": [{"origin": "found"}],
    "ck_key_versions_scheduled_by_somebody": [{"destroy_at": 5}, {"destroy_by": "q"}],
    "ck_key_versions_state": [{"state": "half-destroyed"}],
    "ck_keys_rev": [{"rev": 0}],
    "ck_log_tiles_full": [{"hashes": bytes(8191)}, {"hashes": bytes(8193)}],
    "ck_memberships_not_by_oneself": [{"given_by": "ann"}],
    "ck_moments_code": [{"code": b"short"}],
    "ck_moments_ends": [{"expires_at": 1}, {"expires_at": 0}],
    "ck_moments_held": [{"held": bytes(16385)}],
    "ck_moments_kind": [{"kind": "wish"}],
    "ck_moments_name": [{"name": b"short"}],
    "ck_policy_revisions_digest": [{"digest": b"short"}],
    "ck_policy_revisions_number": [{"number": 0}],
    "ck_principals_kind": [{"kind": "robot"}],
    "ck_principals_role": [{"role": "root"}],
    "ck_recovery_codes_digest": [{"digest": b"short"}],
    "ck_segments_count": [{"count": 0}],
    "ck_segments_from_a_number_on": [{"node": "n2"}, {"node_first": 7}],
    "ck_segments_lies_somewhere": [{"entries": None}],
    "ck_sessions_aal": [{"aal": 4}, {"aal": 0}],
    "ck_sessions_digest": [{"digest": b"short"}],
    "ck_sessions_ends": [{"idle_seconds": 0}, {"expires_at": 1}],
    "ck_sessions_enrolling_is_little": [{"enrolling": True}],
    "ck_keys_stale": [{"stale": "perhaps"}],
    "ck_share_holders_share": [{"share": 0}, {"share": 17}],
    "ck_share_holders_somebody": [{"principal": ""}],
    "ck_tenant_keys_duty": [{"duty": "escrow"}],
}  # fmt: skip

FULL: dict[str, tuple[str, ...]] = {"ck_journal_first": ("journal_no_gap",)}
"""Guards that come before a CHECK, and have to be away for its part to be seen."""


def another(table: str) -> Row:
    """Return a row that could stand beside the first one."""
    return {**FIRST.get(table, {}), **SECOND.get(table, {})}
