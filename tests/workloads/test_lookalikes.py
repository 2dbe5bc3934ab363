"""SPIFFE names that only look right, certificates that only look good: real handshakes, one refusal."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keyclave.core.errors import Malformed
from keyclave.identity.spiffe import covers, parse_id, parse_workload
from tests.workloads.certificates import DAY, NOW, Authority, Identity, usage
from tests.workloads.conftest import DOMAIN, OWN, House

RECORD = {"plaintext": base64.b64encode(b"record").decode()}
ENCRYPT = "/v1/keys/ward-records/encrypt"
NAME = f"spiffe://{DOMAIN}/look/alike"
URI = x509.UniformResourceIdentifier


@pytest.fixture(scope="module", autouse=True)
def registered(house: House) -> None:
    house.register(NAME, ["encrypt"], ["ward-*"])
    house.register(f"spiffe://{DOMAIN}/look/*", ["encrypt"], ["ward-*"])
    house.register("cert:devices:pump-7", ["encrypt"], ["ward-*"])


def outcome(house: House, identity: Identity) -> int:
    """Return the status of a use by that certificate, 0 where the handshake is refused."""
    try:
        with house.client(identity) as client:
            return client.post(ENCRYPT, json=RECORD).status_code
    except httpx.TransportError:
        return 0


def test_the_true_one_opens(house: House) -> None:
    assert outcome(house, house.outside.svid(NAME)) == 200


LOOKALIKES = [
    f"spiffe://{DOMAIN.upper()}/look/alike", f"spiffe://{DOMAIN}./look/alike", f"spiffe://{DOMAIN}:443/look/alike",
    f"spiffe://admin@{DOMAIN}/look/alike", f"spiffe://{DOMAIN}//look/alike", f"spiffe://{DOMAIN}/look//alike",
    f"spiffe://{DOMAIN}/look/alike/", f"spiffe://{DOMAIN}/look/./alike", f"spiffe://{DOMAIN}/look/../look/alike",
    f"spiffe://{DOMAIN}/look/%61like", f"spiffe://{DOMAIN}/look/alike?x=1", f"spiffe://{DOMAIN}/look/alike#x",
    f"SPIFFE://{DOMAIN}/look/alike", f"Spiffe://{DOMAIN}/look/alike", f"spiffe:{DOMAIN}/look/alike",
    f"https://{DOMAIN}/look/alike", f"spiffe://{DOMAIN}", f"spiffe://{DOMAIN}/", f" spiffe://{DOMAIN}/look/alike",
    f"spiffe://{DOMAIN}/look/alike ", f"spiffe://{DOMAIN}/look/alike\n", f"spiffe://{DOMAIN}\\look\\alike",
    "spiffe://hospital-example/look/alike", f"spiffe://{DOMAIN}.evil.example/look/alike", f"spiffe://evil.{DOMAIN}/look/alike",
    "spiffe://xn--hspital-example/look/alike", f"spiffe://{OWN}/look/alike", "spiffe:///look/alike",
    f"spiffe://{DOMAIN}/look/" + "a" * 2048, f"spiffe://{DOMAIN}/look/al~ike", f"spiffe://{DOMAIN}/look/al:ike",
]  # fmt: skip


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("name", LOOKALIKES)
def test_another_spelling_names_nobody(house: House, name: str) -> None:
    assert outcome(house, house.outside.svid(name)) == 401


@pytest.mark.requirement("R32")
@pytest.mark.parametrize(
    "name",
    ["spiffe://h\u043espital.example/look/alike", f"spiffe://{DOMAIN}/look/\u0430like", f"spiffe://{DOMAIN}/look/alike\u200b"],
)
def test_letters_of_another_alphabet_are_no_spiffe_id(name: str) -> None:
    with pytest.raises(Malformed):
        parse_id(name)


@pytest.mark.requirement("R32")
def test_bytes_outside_ascii_in_a_certificate_name_nobody(house: House) -> None:
    """A certificate whose URI was changed into UTF-8 after the library had refused to write it."""
    marker = f"spiffe://{DOMAIN}/look/XXlike"
    identity = house.outside.svid(marker)
    content = identity.certificate.tbs_certificate_bytes.replace(b"XXlike", "\u0430like".encode())
    signed = house.outside.key.sign(content, _sha256())
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    der = _der(0x30, content + algorithm + _der(0x03, b"\0" + signed))

    class Raw(Identity):
        @property
        def pem(self) -> bytes:
            text = base64.encodebytes(der)
            return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"

    assert outcome(house, Raw(identity.certificate, identity.key)) in (0, 401)


def _sha256() -> Any:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.ECDSA(hashes.SHA256())


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = (
        bytes((size,))
        if size < 128
        else bytes((0x80 | (size.bit_length() + 7) // 8,)) + size.to_bytes((size.bit_length() + 7) // 8, "big")
    )
    return bytes((tag,)) + length + content


LEAF = (x509.BasicConstraints(ca=False, path_length=None), True)
SIGNS = (usage("digital_signature"), True)
UNSUITABLE: dict[str, Any] = {
    "two URIs": lambda o: o.leaf(URI(NAME), URI(f"spiffe://{DOMAIN}/look/other")),
    "the same URI twice": lambda o: o.leaf(URI(NAME), URI(NAME)),
    "no URI": lambda o: o.leaf(x509.DNSName(DOMAIN)),
    "no name at all": lambda o: o.leaf(common="gateway"),
    "the name as common name only": lambda o: o.leaf(common=NAME[:64]),
    "an authority": lambda o: o.svid(NAME, extensions=[(x509.BasicConstraints(ca=True, path_length=None), True), SIGNS]),
    "no key usage": lambda o: o.svid(NAME, extensions=[LEAF]),
    "key usage that is not critical": lambda o: o.svid(NAME, extensions=[LEAF, (usage("digital_signature"), False)]),
    "no digital signature": lambda o: o.svid(NAME, extensions=[LEAF, (usage("key_encipherment"), True)]),
    "signs certificates": lambda o: o.svid(NAME, extensions=[LEAF, (usage("digital_signature", "key_cert_sign"), True)]),
    "signs lists": lambda o: o.svid(NAME, extensions=[LEAF, (usage("digital_signature", "crl_sign"), True)]),
    "for servers only": lambda o: o.svid(
        NAME, extensions=[LEAF, SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
    ),
    "expired": lambda o: o.svid(NAME, since=NOW - 3 * DAY, until=NOW - timedelta(seconds=1)),
    "not valid yet": lambda o: o.svid(NAME, since=NOW + DAY, until=NOW + 2 * DAY),
    "signed by nobody": lambda o: o.svid(NAME, signed_by=Authority.root("x").key),
    "an unknown critical extension": lambda o: o.svid(
        NAME, extensions=[LEAF, SIGNS, (x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)]
    ),
}  # fmt: skip


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("fault", UNSUITABLE)
def test_a_certificate_that_is_no_svid_opens_nothing(house: House, fault: str) -> None:
    assert outcome(house, UNSUITABLE[fault](house.outside)) in (0, 401)


@pytest.mark.requirement("R32")
def test_a_chain_below_the_authority_is_followed_and_its_limits_hold(house: House) -> None:
    below = house.outside.below("Ward authority")
    assert outcome(house, below.svid(NAME)) == 200
    expired = house.outside.below("Old authority", since=NOW - 3 * DAY, until=NOW - DAY)
    assert outcome(house, expired.svid(NAME)) == 0
    leaf = house.outside.svid(NAME)  # a leaf that signs as if it were an authority
    made = Authority(leaf.certificate, leaf.key, [leaf.certificate])
    assert outcome(house, made.svid(NAME)) == 0
    closed = house.outside.below("Closed authority", path_length=0)
    deeper = closed.below("Deeper authority")
    deeper.above = [deeper.certificate, closed.certificate]
    assert outcome(house, deeper.svid(NAME)) == 0


@pytest.mark.requirement("R32")
def test_an_authority_names_only_its_own(house: House) -> None:
    """Both authorities are believed by TLS; neither can name what the other's certificates name, nor ours."""
    assert outcome(house, house.devices.svid(NAME)) == 401
    assert outcome(house, house.devices.leaf(common="pump-7")) == 200
    assert outcome(house, house.outside.leaf(common="pump-7")) == 401
    assert outcome(house, house.outside.svid(f"spiffe://{OWN}/look/alike")) == 401
    ours = house.workload("look/ours")
    forged = Authority.root("x", subject=ours.certificate.issuer)  # of the very name that ours has
    assert outcome(house, forged.svid(f"spiffe://{OWN}/look/ours")) == 0
    assert outcome(house, ours) == 200


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("common", ["pump-7 ", "pump-7\n", "PUMP-7", "pump-7,OU=x", "pump/7", "", "pump-8", "pump-\uff17"])
def test_a_subject_that_only_looks_like_it_names_nobody(house: House, common: str) -> None:
    assert outcome(house, house.devices.leaf(URI("urn:x"), common=common)) == 401


@pytest.mark.requirement("R32")
def test_two_common_names_are_none(house: House) -> None:
    twice = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pump-7"), x509.NameAttribute(NameOID.COMMON_NAME, "pump-7")])
    assert outcome(house, house.devices.leaf(subject=twice)) == 401


@pytest.mark.requirement("R32")
def test_names_are_read_exactly() -> None:
    assert str(parse_workload("spiffe://a.b_c-d/x.y/z_1")) == "spiffe://a.b_c-d/x.y/z_1"
    assert str(parse_id("spiffe://" + "a" * 255)) == "spiffe://" + "a" * 255
    for wrong in ("spiffe://" + "a" * 256, "spiffe://a/" + "b" * 2048, "spiffe://a/b/...", "spiffe://", "spiffe://a/b/."):
        if wrong.endswith("..."):
            assert parse_id(wrong)  # three dots are a name like any other
            continue
        with pytest.raises(Malformed):
            parse_id(wrong)
    with pytest.raises(Malformed):
        parse_workload("spiffe://a")


@pytest.mark.requirement("R29")
def test_a_pattern_covers_whole_segments_below_it() -> None:
    assert covers("spiffe://a/b/*", "spiffe://a/b/c")
    assert covers("spiffe://a/b/*", "spiffe://a/b/c/d")
    assert not any(
        covers("spiffe://a/b/*", name) for name in ("spiffe://a/b", "spiffe://a/bc", "spiffe://a/bc/d", "spiffe://a/c")
    )
    assert not covers("spiffe://a/b", "spiffe://a/b/c")
