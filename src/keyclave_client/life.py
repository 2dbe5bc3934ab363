"""The life of keys, and of the credentials and tenants that use them.

Every call here that changes something carries an Idempotency-Key (a random one unless the caller brings its own), so that
repeating it after a broken connection is answered with the first outcome instead of being done twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from keyclave_client import views
from keyclave_client.answers import decode, to_base64
from keyclave_client.calls import Calls
from keyclave_client.use import Bytes


class KeyLife(Calls):
    """Creating, finding, changing and ending keys; issuing and revoking credentials."""

    def create_key(
        self,
        name: str,
        *,
        owner: str,
        environment: str,
        classification: str,
        spec: str = "aes-256",
        purpose: str = "encrypt",
        tags: Mapping[str, str] | None = None,
        cryptoperiod: Mapping[str, int] | None = None,
        rotation: Mapping[str, Any] | None = None,
        activate: bool = True,
        stale_ok: bool = False,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> views.KeyView:
        """Create a key; `cryptoperiod` is {"protect_days", "process_days"}, `rotation` {"every_days", "reason"}.

        `stale_ok`: nodes that are cut off from the database may go on decrypting with it for a while.
        """
        body = {
            "name": name, "spec": spec, "purpose": purpose, "owner": owner, "environment": environment,
            "classification": classification, "tags": tags, "cryptoperiod": cryptoperiod, "rotation": rotation,
            "activate": activate, **({"stale_ok": True} if stale_ok else {}),
        }  # fmt: skip
        return decode(views.KeyView, self._change("POST", "/v1/keys", body, dry_run=dry_run, idempotency_key=idempotency_key))

    def get_key(self, key: str) -> views.KeyView:
        """Return the key with this id or name."""
        return decode(views.KeyView, self._read(_key(key)))

    def list_keys(self, *, name: str | None = None, state: str | None = None, page: int = 100) -> Iterator[views.KeyView]:
        """Yield the keys the caller may see, asking for `page` of them at a time."""
        for item in self._pages("/v1/keys", "keys", {"name": name, "state": state, "limit": str(page)}):
            yield decode(views.KeyView, item)

    def update_key(
        self, key: str, *, if_match: int | None = None, dry_run: bool = False, idempotency_key: str | None = None, **changes: Any
    ) -> views.KeyView:
        """Change owner, environment, classification, tags, cryptoperiod, rotation or stale_ok.

        `if_match` is the `rev` that was read. A cryptoperiod and stale_ok=True need a `reason`.
        """
        how = {"dry_run": dry_run, "idempotency_key": idempotency_key, "if_match": if_match}
        return decode(views.KeyView, self._change("PATCH", _key(key), changes, **how))

    def move(
        self,
        key: str,
        verb: str,
        version: int | None = None,
        reason: str | None = None,
        *,
        dry_run: bool = False,
        idempotency_key: str | None = None,
        days: int | None = None,
        if_match: int | None = None,
    ) -> views.KeyView:
        """Move a key, or one version of it, through its life.

        `verb`: activate, rotate, suspend, resume, deactivate, compromise, archive, recover, schedule-destruction (with `days`),
        cancel-destruction, destroy. `dry_run` says what would happen and changes nothing.
        """
        body = {"version": version, "reason": reason, "days": days}
        path = f"{_key(key)}/{quote(verb.replace('_', '-'), safe='')}"
        how = {"dry_run": dry_run, "idempotency_key": idempotency_key, "if_match": if_match}
        return decode(views.KeyView, self._change("POST", path, body, **how))

    def public_key(self, key: str, version: int | None = None) -> views.PublicKey:
        """Return the public half (PEM) of a version, the primary one if none is named."""
        query = {"version": None if version is None else str(version)}
        return decode(views.PublicKey, self._read(_key(key) + "/public-key", query))

    def import_parameters(self) -> views.ImportParameters:
        """Ask for a one-time wrapping key for `import_key`."""
        return decode(views.ImportParameters, self._change("POST", "/v1/import/parameters", {}))

    def import_key(
        self,
        name: str,
        material: Bytes,
        *,
        owner: str,
        environment: str,
        classification: str,
        spec: str = "aes-256",
        purpose: str = "encrypt",
        idempotency_key: str | None = None,
        **more: Any,
    ) -> views.KeyView:
        """Bring a key in: `material` (raw bytes, or PKCS #8 DER of a private key) is wrapped here and never travels plain.

        The key-check value sent along lets the server prove that it holds the same key. `more` are fields of `create_key`.
        """
        from keyclave_client.importing import key_check, wrap_for_import  # loads the crypto library: only importers pay

        parameters = self.import_parameters()
        wrapped = wrap_for_import(parameters.wrapping_key, parameters.algorithm, material)
        body = {
            "token": parameters.token, "wrapped": to_base64(wrapped),
            "kcv": key_check(material), "name": name, "spec": spec, "purpose": purpose, "owner": owner,
            "environment": environment, "classification": classification, **more,
        }  # fmt: skip
        return decode(views.KeyView, self._change("POST", "/v1/keys/import", body, idempotency_key=idempotency_key))

    def issue_credential(
        self, principal: str, role: str, ttl_seconds: int, scope: Mapping[str, Any] | None = None, *,
        idempotency_key: str | None = None,
    ) -> views.Credential:  # fmt: skip
        """Issue a credential; its token is in this answer and nowhere else, ever."""
        body = {"principal": principal, "role": role, "ttl_seconds": ttl_seconds, "scope": scope}
        return decode(views.Credential, self._change("POST", "/v1/credentials", body, idempotency_key=idempotency_key))

    def list_credentials(self) -> Iterator[views.Credential]:
        """Yield the tenant's credentials, without their tokens."""
        for item in self._pages("/v1/credentials", "credentials", {}):
            yield decode(views.Credential, item)

    def revoke_credential(self, credential: str, reason: str | None = None) -> views.Credential:
        """Revoke a credential: when this returns, no request with it is answered any more."""
        path = f"/v1/credentials/{quote(credential, safe='')}/revoke"
        got = self._change("POST", path, {"reason": reason})
        return decode(views.Credential, {"id": credential, **got} if isinstance(got, dict) else got)

    def create_tenant(self, name: str, *, idempotency_key: str | None = None) -> views.Tenant:
        """Create a tenant with keys and people of its own."""
        return decode(views.Tenant, self._change("POST", "/v1/tenants", {"name": name}, idempotency_key=idempotency_key))

    def name_share_holder(
        self, share: int, principal: str, reason: str = "", *, idempotency_key: str | None = None
    ) -> views.ShareHolder:
        """Record that somebody holds the share of this number now. It moves no share."""
        body = {"share": share, "principal": principal, "reason": reason}
        return decode(views.ShareHolder, self._change("POST", "/v1/shares/holders", body, idempotency_key=idempotency_key))

    def share_holders(self) -> views.ShareHolders:
        """Return who holds which share."""
        return decode(views.ShareHolders, self._read("/v1/shares/holders"))


def _key(key: str) -> str:
    return "/v1/keys/" + quote(key, safe="")
