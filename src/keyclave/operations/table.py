"""The table of operations: the one list from which every protocol, the OpenAPI document and the duties' tests are printed."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from keyclave.core import limits
from keyclave.identity.peer import Plane
from keyclave.keys.transitions import Move
from keyclave.operations import (
    create_key,
    credentials,
    data_key,
    destroy_key,
    encrypt,
    exchange,
    random_bytes,
    re_encrypt,
    read_keys,
    read_log,
    rotate_key,
    self_test,
    share_holders,
    sign,
    tenants,
    unseal,
    update_key,
)
from keyclave.operations.approvals.table import OPERATIONS as APPROVALS
from keyclave.operations.archive_key import rewrapping
from keyclave.operations.batch import BatchAnswer, UseVerb, Whole, in_portions, many
from keyclave.operations.elevation.table import OPERATIONS as ELEVATION
from keyclave.operations.forms import Empty, Request
from keyclave.operations.grants.table import OPERATIONS as GRANTS
from keyclave.operations.key_view import KeyView
from keyclave.operations.moves import MoveRequest, move
from keyclave.operations.nodes.table import OPERATIONS as NODES
from keyclave.operations.operation import Later, Operation, Slow, always
from keyclave.operations.people.table import OPERATIONS as PERSONS
from keyclave.operations.policy.table import OPERATIONS as POLICIES
from keyclave.operations.workloads import table as workloads
from keyclave.policy.classes import Class

_KEY = "/v1/keys/{key}"


def _batch_of(request: type) -> type:
    items = Annotated[list[request], Meta(min_length=1, max_length=limits.BATCH)]  # type: ignore[valid-type]
    name = request.__name__.replace("Request", "BatchRequest")
    return msgspec.defstruct(name, [("items", items)], bases=(Request,), module=__name__, kw_only=True)


def _use(
    name: str, verb: UseVerb, request: type, answer: type, summary: str, slow: Slow | None = None, whole: Whole | None = None,
    *, while_away: bool = False, later: Later | None = None,
) -> list[Operation]:  # fmt: skip
    path = f"{_KEY}/{name}"
    one = Operation(
        name, "POST", path, request, answer, summary, verb, on_key=True, slow=slow, plane=Plane.DATA,
        while_away=while_away, later=later,
    )  # fmt: skip
    batch = Operation(
        name, "POST", f"{path}/batch", _batch_of(request), BatchAnswer, f"{summary} Up to {limits.BATCH} items.",
        many(verb, whole), on_key=True, slow=slow, batch=True, plane=Plane.DATA, while_away=while_away,
        portions=None if slow is None else in_portions(verb),
    )  # fmt: skip
    return [one, batch]


def _moved(name: Move, summary: str) -> Operation:
    return Operation(
        name.value, "POST", f"{_KEY}/{name.value}", MoveRequest, KeyView, summary, move(name), on_key=True, changes=True
    )


def _change(
    name: str, path: str, request: type, run: Any, summary: str, slow: Slow | None = None, classed: Class | None = None
) -> Operation:
    return Operation(name, "POST", path, request, KeyView, summary, run, on_key=True, changes=True, slow=slow, classed=classed)


def _read(name: str, path: str, query: type | None, answer: type, run: Any, summary: str, **more: Any) -> Operation:
    return Operation(name, "GET", path, None, answer, summary, run, query=query, needs_root=False, **more)


USES: list[Operation] = [
    *_use(
        "encrypt", encrypt.encrypt, encrypt.EncryptRequest, encrypt.EncryptAnswer, "Encrypt small data in place.",
        whole=encrypt.encrypt_all, later=encrypt.encrypt_later,
    ),
    *_use("decrypt", encrypt.decrypt, encrypt.DecryptRequest, encrypt.DecryptAnswer, "Decrypt in place.", while_away=True),
    *_use(
        "re-encrypt", re_encrypt.re_encrypt, re_encrypt.ReEncryptRequest, re_encrypt.ReEncryptAnswer,
        "Move a ciphertext or wrapped key to the newest version, another key or another context.",
    ),
    *_use(
        "data-key", data_key.data_key, data_key.DataKeyRequest, data_key.DataKeyAnswer, "Make a data key.",
        later=data_key.data_key_later,
    ),
    *_use(
        "data-key-pair", data_key.data_key_pair, data_key.DataKeyPairRequest, data_key.DataKeyPairAnswer,
        "Make a key pair whose private half is wrapped.", always,
    ),
    *_use("wrap", data_key.wrap, data_key.WrapRequest, data_key.WrapAnswer, "Wrap key material made elsewhere."),
    *_use("unwrap", data_key.unwrap, data_key.UnwrapRequest, data_key.UnwrapAnswer, "Open a wrapped key."),
    *_use("sign", sign.sign, sign.SignRequest, sign.SignAnswer, "Sign a message or digest.", sign.signs_slowly),
    *_use(
        "verify", sign.verify, sign.VerifyRequest, sign.ValidAnswer,
        "Verify a signature; one that does not verify is an error.", sign.signs_slowly,
    ),
    *_use("mac", sign.mac, sign.MacRequest, sign.MacAnswer, "Compute a MAC."),
    *_use(
        "verify-mac", sign.verify_mac, sign.VerifyMacRequest, sign.ValidAnswer,
        "Verify a MAC; one that does not verify is an error.",
    ),
]  # fmt: skip

EXCHANGES: list[Operation] = [
    Operation(
        "decrypt", "POST", f"{_KEY}/open", exchange.OpenRequest, exchange.OpenAnswer,
        "Decrypt what was encrypted to the public key (RSA-OAEP).", exchange.open_public, on_key=True, slow=always,
        plane=Plane.DATA,
    ),
    Operation(
        "derive-shared-secret", "POST", f"{_KEY}/derive-shared-secret", exchange.AgreeRequest, exchange.SecretAnswer,
        "Agree on a secret with another key pair (ECDH).", exchange.agree, on_key=True, slow=always, plane=Plane.DATA,
    ),
    Operation(
        "encapsulate", "POST", f"{_KEY}/encapsulate", exchange.EncapsulateRequest, exchange.EncapsulateAnswer,
        "Encapsulate a secret to the public key (ML-KEM).", exchange.encapsulate, on_key=True,
        plane=Plane.DATA,
    ),
    Operation(
        "decapsulate", "POST", f"{_KEY}/decapsulate", exchange.DecapsulateRequest, exchange.SecretAnswer,
        "Get the secret out of an encapsulation (ML-KEM).", exchange.decapsulate, on_key=True,
        plane=Plane.DATA,
    ),
    Operation(
        "random", "POST", "/v1/random", random_bytes.RandomRequest, random_bytes.RandomAnswer,
        "Draw random bytes.", random_bytes.random_bytes, plane=Plane.DATA,
    ),
    Operation(
        "random", "POST", "/v1/random/batch", _batch_of(random_bytes.RandomRequest), BatchAnswer,
        f"Draw random bytes. Up to {limits.BATCH} items.", many(random_bytes.random_bytes), batch=True,
        plane=Plane.DATA,
    ),
]  # fmt: skip

LIFE: list[Operation] = [
    Operation(
        "key-create", "POST", "/v1/keys", create_key.CreateRequest, KeyView, "Create a key.", create_key.create_key,
        changes=True, status=201, slow=create_key.made_slowly, makes=True,
    ),
    Operation(
        "import-parameters", "POST", "/v1/import/parameters", Empty, create_key.ImportParameters,
        "Make a one-time wrapping key for an import.", create_key.import_parameters, slow=always,
    ),
    Operation(
        "key-import", "POST", "/v1/keys/import", create_key.ImportRequest, KeyView, "Register a key made elsewhere.",
        create_key.import_key, changes=True, status=201, slow=always, makes=True,
    ),
    Operation(
        "key-update", "PATCH", _KEY, update_key.UpdateRequest, KeyView, "Change what is said of a key.",
        update_key.update_key, on_key=True, changes=True,
    ),
    _change("rotate", f"{_KEY}/rotate", rotate_key.RotateRequest, rotate_key.rotate_key,
            "Make a new version primary; older ones only open what they protected.", rotate_key.rotates_slowly),
    _moved(Move.ACTIVATE, "Begin the cryptoperiod of a version and make it primary."),
    _moved(Move.SUSPEND, "Stop every use for a time."),
    _moved(Move.RESUME, "End a suspension."),
    _moved(Move.DEACTIVATE, "End protection; opening goes on."),
    _moved(Move.COMPROMISE, "Report a compromise: every use stops."),
    _change("archive", f"{_KEY}/archive", MoveRequest, rewrapping(Move.ARCHIVE), "Move material under the archive key."),
    _change("recover", f"{_KEY}/recover", MoveRequest, rewrapping(Move.RECOVER), "Bring material back from the archive."),
    _change("schedule-destruction", f"{_KEY}/schedule-destruction", destroy_key.ScheduleRequest, destroy_key.schedule,
            "Set the day of destruction; every use stops until then."),
    _change("cancel-destruction", f"{_KEY}/cancel-destruction", MoveRequest, destroy_key.cancel,
            "Stop a scheduled destruction."),
    _change("destroy", f"{_KEY}/destroy", MoveRequest, destroy_key.destroy,
            "Destroy the material after the waiting period; another custodian than the one who scheduled it.",
            classed=Class.DESTRUCTION),
]  # fmt: skip

PEOPLE: list[Operation] = [
    Operation(
        "credential-issue", "POST", "/v1/credentials", credentials.IssueRequest, credentials.IssuedCredential,
        "Issue a credential to another principal; the token is shown once.", credentials.issue,
        changes=True, status=201, acts_as=credentials.issue_action,
    ),
    Operation(
        "credential-revoke", "POST", "/v1/credentials/{credential}/revoke", credentials.RevokeRequest,
        credentials.CredentialView, "Revoke a credential: once answered, its token opens nothing.", credentials.revoke,
        changes=True, needs_root=False,
    ),
    Operation(
        "tenant-create", "POST", "/v1/tenants", tenants.TenantRequest, tenants.TenantAnswer,
        "Make a tenant with keys of its own.", tenants.create_tenant, changes=True, status=201, classed=Class.ROOT,
    ),
    Operation(
        "seal", "POST", "/v1/seal", Empty, unseal.SealAnswer, "Wipe every key from memory until custodians unseal again.",
        unseal.seal, changes=True,
    ),
]  # fmt: skip

CUSTODY: list[Operation] = [
    Operation(
        "share-holder-name", "POST", "/v1/shares/holders", share_holders.NameRequest, share_holders.HolderView,
        "Name who holds a share of the root's recovery key.", share_holders.name_holder, changes=True, status=201,
        classed=Class.ROOT,
    ),
    _read("share-holder-list", "/v1/shares/holders", None, share_holders.HolderList, share_holders.list_holders,
          "List who holds which share."),
]  # fmt: skip

UPKEEP: list[Operation] = [
    Operation(
        "self-test", "POST", "/v1/self-test", self_test.SelfTestRequest, self_test.SelfTestAnswer,
        "Run the cryptographic module's known-answer tests.", self_test.self_test, needs_root=False, slow=always,
    ),
]  # fmt: skip

READS: list[Operation] = [
    _read("key-list", "/v1/keys", read_keys.ListQuery, read_keys.KeyPage, read_keys.list_keys, "List keys.", slow=always),
    _read("key-read", _KEY, None, KeyView, read_keys.read_key, "Describe a key.", on_key=True, plane=Plane.BOTH),
    _read("public-key", f"{_KEY}/public-key", read_keys.PublicKeyQuery, read_keys.PublicKey, read_keys.read_public_key,
          "Return a public key.", on_key=True, plane=Plane.BOTH),
    _read("credential-list", "/v1/credentials", credentials.CredentialQuery, credentials.CredentialPage,
          credentials.list_credentials, "List credentials.", slow=always),
    _read("whoami", "/v1/whoami", None, credentials.WhoAmI, credentials.whoami, "Say who the caller is.",
          plane=Plane.BOTH, self_service=True),
    _read("log-read", "/v1/audit/events", read_log.EventsQuery, read_log.EventsPage, read_log.read_events,
          "Read events.", slow=always),
]  # fmt: skip

OPERATIONS: list[Operation] = [
    *USES, *EXCHANGES, *LIFE, *PEOPLE, *CUSTODY, *PERSONS, *APPROVALS, *GRANTS, *POLICIES, *ELEVATION, *UPKEEP, *READS, *NODES,
    *workloads.OPERATIONS,
]  # fmt: skip
