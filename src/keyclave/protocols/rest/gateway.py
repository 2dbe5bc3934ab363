"""From an HTTP request to an attempt and back: the part that both lanes share.

Nothing is parsed for a caller who is not known: the credential comes first, then the body, then the operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import msgspec

from keyclave.core.errors import KeyclaveError, LimitReached, Malformed, Refused, Unauthenticated
from keyclave.crypto.bearer import SESSION
from keyclave.identity.caller import Caller
from keyclave.identity.lockout import Lockout
from keyclave.identity.peer import Peer
from keyclave.identity.proxies import ProxyRule
from keyclave.operations.answers import encode_answer
from keyclave.operations.attempt import Attempt, Reply
from keyclave.operations.desk import Desk
from keyclave.operations.key_view import KeyView
from keyclave.operations.new_keys import REV
from keyclave.operations.once import request_digest
from keyclave.operations.operation import Operation
from keyclave.operations.people.sessions import SessionAnswer
from keyclave.operations.repeats import Repeat, remember
from keyclave.policy.duties import OWN_CREDENTIALS
from keyclave.protocols.rest.bodies import Bodies
from keyclave.protocols.rest.cookies import move_to_cookie, no_cookie, token_in
from keyclave.protocols.rest.problems import CONTENT_TYPE, malformed, problem, retry_after
from keyclave.protocols.rest.same_site import check_site

JSON = b"application/json"

Respond = Callable[[int, bytes, bytes, Iterable[tuple[bytes, bytes]]], None]  # status, content type, body, further headers

_OF_CREDENTIALS = OWN_CREDENTIALS | {"step-up"}
_BEARER = b"bearer "
_LONGEST_KEY = 128
_TOKENS_AT_ONCE = 2_000  # dead credentials from one address; tokens cannot be guessed, so this only spares work
_TOKEN_REFILL = 50_000  # microseconds for one further


class Head:
    """The headers and query that an operation reads."""

    __slots__ = (
        "approval", "authorization", "comes_again", "cookie", "dry_run", "idempotency_key", "if_match", "origin", "purpose",
        "repeat", "site",
    )  # fmt: skip

    def __init__(self) -> None:
        self.approval: bytes | None = None
        self.authorization: bytes | None = None
        self.cookie: bytes | None = None
        self.idempotency_key: bytes | None = None
        self.if_match: bytes | None = None
        self.dry_run = False
        self.origin: bytes | None = None
        self.purpose: bytes | None = None
        self.site: bytes | None = None
        self.comes_again = False  # whether it is kept, for requests of the same bytes
        self.repeat: Repeat | None = None  # what such a request is admitted by

    def plain(self) -> bool:
        """Tell whether it says nothing but who asks."""
        said = (self.approval, self.cookie, self.idempotency_key, self.if_match, self.purpose)
        return not self.dry_run and all(field is None for field in said)


_FIELDS = {
    b"authorization": "authorization",
    b"cookie": "cookie",
    b"idempotency-key": "idempotency_key",
    b"if-match": "if_match",
    b"keyclave-approval": "approval",
    b"keyclave-purpose": "purpose",
    b"origin": "origin",
    b"sec-fetch-site": "site",
}


def read_head(headers: list[tuple[bytes, bytes]], query: bytes) -> Head:
    """Pick what an operation reads; a second Authorization is refused, for which one counts is anybody's guess."""
    head = Head()
    for name, value in headers:
        field = _FIELDS.get(name)
        if field is not None:
            if getattr(head, field) is not None:
                raise Malformed(f"the header {name.decode()} is there twice", "send it once")
            setattr(head, field, value)
    if query:
        head.dry_run = _dry_run(query)
    return head


def _dry_run(query: bytes) -> bool:
    if query in (b"dry_run=true", b"dry_run=1"):
        return True
    if query in (b"dry_run=false", b"dry_run=0"):
        return False
    raise Malformed("unknown query parameters", "the only one here is dry_run=true")


class Gateway:
    """Admits requests to the desk."""

    def __init__(self, desk: Desk, operations: list[Operation], refused: Callable[[str, str], None]) -> None:
        self.desk = desk
        self.refused = refused
        self.failures = Lockout(desk.clock, burst=_TOKENS_AT_ONCE, refill=_TOKEN_REFILL)
        self._bodies = Bodies(operations)

    def caller(self, head: Head, peer: Peer, *, reading: bool = False) -> Caller:
        """Return the caller, or raise `Unauthenticated` after counting the attempt. `reading`: the request changes nothing."""
        try:
            authorization = head.authorization
            if authorization is None and head.cookie is not None and (token := token_in(head.cookie)):
                return self.visitor(token, head, peer, reading=reading)
            if authorization is None and peer.certificate is not None:
                return self.desk.callers.certified.caller(peer)
            if authorization is None or authorization[:7].lower() != _BEARER:
                raise Unauthenticated("no live credential was presented", "send a current token as `Authorization: Bearer …`")
            return self.desk.callers.present(authorization[7:].strip(), peer)
        except (Unauthenticated, Refused):
            self.refused(peer.address, "authenticate")
            self._slow_down(peer)
            raise

    def visitor(self, token: bytes, head: Head, peer: Peer, *, reading: bool) -> Caller:
        """Return whose session a page's cookie is. Only our pages may bring it, and only sessions live in cookies."""
        check_site(head.site, head.origin, self.desk.people.relying.origins, reading=reading)
        if not token.startswith(SESSION.encode()):
            raise Unauthenticated("no live session was presented", "log in at /ui/login")
        return self.desk.callers.present(token, peer)

    def names_proxy(self, peer: Peer, rule: ProxyRule) -> bool:
        """Tell whether the other end has shown the certificate of a proxy that is believed."""
        if peer.certificate is None or not rule.names:
            return False
        try:
            return self.desk.callers.certified.name(peer).name in rule.names
        except Unauthenticated:
            return False

    def _slow_down(self, peer: Peer) -> None:
        """Tell an address that sends one dead credential after another to wait.

        What is alive was looked up before and never waits, so that nobody behind the same address is locked out.
        """
        self.failures.failed("", peer.address)
        seconds = self.failures.wait("", peer.address)
        if seconds:
            raise LimitReached(
                "no live credential was presented, and too many that are not came from this address",
                "send a current token as `Authorization: Bearer …`: one that is alive is not delayed",
                seconds,
            ) from None

    def submit(
        self, op: Operation, ref: str, head: Head, body: bytes | bytearray | Mapping[str, str], peer: Peer, respond: Respond
    ) -> None:
        """Perform `op`; `respond` is called once, when the outcome is durable. A GET's body is its query, as a mapping."""
        desk = self.desk
        try:
            caller = self.caller(head, peer, reading=op.method == "GET")
        except KeyclaveError as error:
            _respond_error(error, "", respond)
            return
        attempt = desk.begin(op, caller, peer, partial(reply_to, op, respond))
        if head.authorization is None and head.cookie is not None and caller.id.startswith("ses_"):
            attempt.by_cookie = True
        try:
            request = self._request(op, body)
            if head.approval is not None or head.purpose is not None:
                _conditions(head, attempt)
            if attempt.by_cookie and head.idempotency_key is not None and issubclass(op.answer, SessionAnswer):
                raise Malformed(
                    "a page keeps no token under an idempotency key", "leave Idempotency-Key out: it counts once anyway"
                )
            if op.changes:
                _options(op, ref, head, body, attempt)
            elif head.dry_run:
                raise Malformed("this operation changes no record, so it cannot be rehearsed", "leave dry_run out")
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError) as fault:
            attempt.error = malformed(fault)
        except KeyclaveError as error:
            attempt.error = error
        except RecursionError:
            attempt.error = Malformed("the request is nested too deeply", "see /v1/openapi.json")
        if attempt.error is not None:
            desk.enqueue(attempt)
        else:
            desk.perform(op, attempt, ref, request)
            if head.comes_again and head.plain():
                head.repeat = remember(attempt)

    def submit_again(self, repeat: Repeat, body: bytes | bytearray, peer: Peer, reply: Reply, ready: Reply | None = None) -> bool:
        """Perform what the same head asked for before, if that still holds; False if it has to be asked for anew.

        `reply` is called once, when the outcome is durable; `ready`, perhaps, as soon as the answer is written.
        """
        desk, op = self.desk, repeat.op
        attempt = Attempt(desk, op.name, repeat.caller, peer, reply)
        attempt.ready = ready
        key = repeat.key() if op.on_key else None
        if (key is None and op.on_key) or not repeat.holds(attempt.at):
            return False
        try:
            request = self._bodies.read(op, body)
        except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, Malformed):
            return False
        if op.slow is not None and op.slow(key, request):
            return False
        desk.use_again(repeat, attempt, key, request)
        return True

    def _request(self, op: Operation, body: bytes | bytearray | Mapping[str, str]) -> Any:
        if isinstance(body, bytes | bytearray):
            return self._bodies.read(op, body or b"{}")
        if op.query is None:
            if body:
                raise Malformed("this operation takes no query", "see /v1/openapi.json")
            return None
        return msgspec.convert(body, op.query, strict=False)


def _conditions(head: Head, attempt: Attempt) -> None:
    """Take what a caller declares for any operation: the approval it is done under, and the purpose of use."""
    for name in ("approval", "purpose"):
        value: bytes | None = getattr(head, name)
        if value is not None:
            if not value or len(value) > _LONGEST_KEY or not value.isascii() or not value.decode("latin-1").isprintable():
                raise Malformed(f"keyclave-{name} is not 1 to 128 printable characters", "see /v1/openapi.json")
            setattr(attempt, name, value.decode())


def _options(op: Operation, ref: str, head: Head, body: bytes | bytearray | Mapping[str, str], attempt: Attempt) -> None:
    attempt.dry_run = head.dry_run
    if head.if_match is not None:
        if not op.on_key:
            raise Malformed("this operation has no revision to compare", "leave If-Match out")
        revision = head.if_match.strip(b'"')
        if not revision.isdigit() or len(revision) > 9:
            raise Malformed("If-Match is not a revision", "send the ETag of the key as it came")
        attempt.if_match = int(revision)
    if head.idempotency_key is not None:
        key = head.idempotency_key
        if not key or len(key) > _LONGEST_KEY or not key.isascii() or not key.decode("latin-1").isprintable():
            raise Malformed("the idempotency key is not 1 to 128 printable characters", "use a UUID")
        if not head.dry_run:  # a rehearsal uses no key up
            # an answer with a secret for one credential is not for another of the same principal, narrower perhaps or stolen
            about = attempt.caller.id if op.name in _OF_CREDENTIALS else ref
            digest = request_digest(op.name, about, bytes(body), attempt.if_match)  # type: ignore[arg-type]
            attempt.idempotency = (key.decode(), digest)


def further_headers(op: Operation) -> tuple[tuple[bytes, bytes], ...]:
    """Return those of an answer that is written before it is kept."""
    return _NEW if op.makes else ()


def reply_to(op: Operation, respond: Respond, attempt: Attempt) -> None:
    """Respond with what became of an attempt."""
    if attempt.error is not None:
        _respond_error(attempt.error, attempt.event, respond)
        return
    if attempt.drafted:
        respond(op.status, JSON, attempt.drafted, further_headers(op))
        return
    answer = attempt.answer
    more: list[tuple[bytes, bytes]] = []
    if attempt.replayed:
        body = answer
        more.append((b"idempotent-replayed", b"true"))
        if issubclass(op.answer, KeyView):
            more.append(_etag(_kept_revision(answer).rev))
    else:
        answer.event = attempt.event
        if attempt.by_cookie and isinstance(answer, SessionAnswer):
            more.append((b"set-cookie", move_to_cookie(answer).encode()))
        elif attempt.by_cookie and op.name == "logout":
            more.append((b"set-cookie", no_cookie().encode()))
        body = encode_answer(answer)
        if isinstance(answer, KeyView):
            more.append(_etag(answer.rev))
    if attempt.dry_run:
        more.append((b"keyclave-dry-run", b"true"))
    respond(200 if attempt.dry_run else op.status, JSON, body, more)


class _Revised(msgspec.Struct):
    """What a kept answer says of the key's revision: the one that the first asker got, whatever came after."""

    rev: int


_kept_revision = msgspec.json.Decoder(_Revised).decode


def _etag(revision: int) -> tuple[bytes, bytes]:
    return b"etag", b'"%d"' % revision


_NEW = (_etag(REV),)


def _respond_error(error: KeyclaveError, event: str, respond: Respond) -> None:
    status, body = problem(error, event)
    more: list[tuple[bytes, bytes]] = []
    if status == 401:
        more.append((b"www-authenticate", b'Bearer realm="keyclave"'))
    if status in (429, 503):
        more.append((b"retry-after", str(retry_after(error)).encode()))
    respond(status, CONTENT_TYPE, body, more)
