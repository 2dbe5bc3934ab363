"""The Cedar half of a bundle: the schema, the policies as parsed parts, and the rules a policy must keep before it is compiled.

Policies are read once into Cedar's JSON form; each is known by its `@id` from then on, so a decision names what a person wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import cedarpy
import msgspec

from keyclave.core.errors import Malformed

RESERVED = "granted"  # only built-in policies read it: a `forbid` that did would make the loss of a grant give a right
BUILT_IN = "built-in"
_GRANTED = (
    'permit(principal, action in [Action::"use", Action::"key-read", Action::"public-key", Action::"grant-create", '
    'Action::"grant-retire", Action::"grant-revoke", Action::"grant-list", Action::"grant-read"], resource) '
    "when { context.granted };"
)
OWN_GRANTS = frozenset(("grant-create", "grant-retire", "grant-revoke", "grant-list", "grant-read"))
"""What applications do with grants of their own: the grant is the right to it."""
_MOST = 5_000
_KEY = ("name", "spec", "purpose", "owner", "environment", "classification", "location")
_CALL = ("aal", "elevated", "fresh", "granted", "how", "networks", "plane", "purpose")
_ATTRIBUTES: dict[str, tuple[str, ...]] = {"principal": ("duty",), "resource": _KEY, "context": _CALL}
_READ = 10  # policies read in one call, which holds the interpreter: a millisecond or two
_VALIDATED = 25  # policies validated in one call, which lets others run
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|;')


class Kind(msgspec.Struct, frozen=True):
    """What is said of an operation: its group (`use`, `manage` or `read`), whether it is done on a key, whether its request has
    an encryption context, and whether everybody does it for themselves, without a permit (`own`). `over`: the kinds of things
    that it changes, as separation of duties knows them. `classed`: what it is sensitive for, empty for nothing."""

    group: str
    on_key: bool
    context: bool = False
    own: bool = False
    over: frozenset[str] = frozenset()
    classed: str = ""


class Policy(msgspec.Struct, frozen=True):
    """One policy. `actions` are operations it may concern; `context` constrains the encryption context.

    `form` is its JSON, sorted, as text: two thousand trees would be millions of objects for the collector to walk through, while
    everybody waits.
    """

    id: str
    file: str
    effect: str
    actions: frozenset[str]
    form: str
    context: Mapping[str, tuple[str, ...]]

    def tree(self) -> dict[str, Any]:
        """Return the form as a tree."""
        return dict(json.loads(self.form))


def schema_text(kinds: Mapping[str, Kind]) -> str:
    """Return the Cedar schema, printed from the operations."""
    lines = [
        "entity Tenant;",
        "entity Network;",
        "entity Role in [Role];",
        "entity Tag in [Tenant];",
        "entity Person in [Role, Tenant] { duty: String };",
        "entity Workload in [Role, Tenant] { duty: String };",
        "entity Key in [Tag, Tenant] { name: String, spec: String, purpose: String, owner: String, environment: String,"
        " classification: String, location: String };",
        "type Call = { aal: Long, elevated: Bool, fresh: Bool, granted: Bool, how: String, networks: Set<Network>,"
        " plane: String, purpose: String };",
        *(f"action {json.dumps(group)};" for group in sorted({kind.group for kind in kinds.values()})),
    ]
    for name, kind in sorted(kinds.items()):
        resource = "Key" if kind.on_key else "Tenant"
        lines.append(
            f"action {json.dumps(name)} in [{json.dumps(kind.group)}] appliesTo {{ principal: [Person, Workload], "
            f"resource: [{resource}], context: Call }};"
        )
    return "\n".join(lines) + "\n"


def built_in(kinds: Mapping[str, Kind]) -> Policy:
    """Return the one policy that is always there: what a scope or grant reaches is permitted."""
    form = json.loads(cedarpy.policies_to_json_str(_GRANTED))["staticPolicies"]["policy0"]
    form["annotations"] = {"id": BUILT_IN}
    uses = OWN_GRANTS.union(name for name, kind in kinds.items() if kind.group == "use" or name in ("key-read", "public-key"))
    return Policy(id=BUILT_IN, file="", effect="permit", actions=uses, form=_text(form), context={})


def read_policies(files: Mapping[str, str], kinds: Mapping[str, Kind]) -> list[Policy]:
    """Parse the Cedar files. Malformed, naming file and policy, for text that is not Cedar or a policy that breaks a rule."""
    policies: dict[str, Policy] = {}
    for name, text in files.items():
        for line, piece in _pieces(text):
            for form in _forms(f"{name} from line {line}" if line > 1 else name, piece):
                policy = _policy(name, form, kinds)
                if policy.id in policies:
                    raise Malformed(
                        f"{name}: the policy id {policy.id!r} is also in {policies[policy.id].file}",
                        "ids are said in the log: make each one its own",
                    )
                policies[policy.id] = policy
        if len(policies) > _MOST:
            raise Malformed(f"a bundle holds at most {_MOST} policies", "say it with roles, tags or grants")
    return list(policies.values())


def validate(policies: Iterable[Policy], schema: cedarpy.Schema, kinds: Mapping[str, Kind]) -> list[str]:
    """Return what Cedar's validator finds, in pieces, so that no call holds up the server for long.

    The validator works through every operation of the schema for each policy. So it is first given a schema of only those that a
    policy's scope reaches: for every other one the scope is false, and there is nothing to find. What does not pass there (its
    conditions may name other operations) is judged by the whole schema.
    """
    groups: dict[frozenset[str], list[Policy]] = {}
    for policy in policies:
        groups.setdefault(policy.actions, []).append(policy)
    found: list[str] = []
    for actions, group in groups.items():
        narrow = cedarpy.Schema.from_str(schema_text({name: kinds[name] for name in actions}))
        for piece in chunked(group, _VALIDATED):
            if _findings(piece, narrow):
                found += _findings(piece, schema)
    return found


def _findings(policies: Iterable[Policy], schema: cedarpy.Schema) -> list[str]:
    text = cedarpy.policies_from_json_str(_document(policies))
    result = cedarpy.validate_policies(text, schema, release_gil=True)
    names = result.id_annotations_by_policy_id
    return [f"{names.get(error.policy_id, error.policy_id)}: {error.error}" for error in result.errors]


def parsed(policies: Iterable[Policy]) -> cedarpy.PolicySet:
    """Return the policies as one set for the engine, each under its own id."""
    return cedarpy.PolicySet.from_json_str(_document(policies), release_gil=True)


def text_of(policy: Policy) -> str:
    """Return a policy as Cedar text, in Cedar's own formatting."""
    return cedarpy.policies_from_json_str(_document([policy])).strip()


def chunked(policies: list[Policy], size: int = 100) -> list[list[Policy]]:
    """Share policies out: parsing a hundred takes some 6 ms, and nobody should wait longer for the interpreter."""
    return [policies[i : i + size] for i in range(0, len(policies), size)]


def _pieces(text: str) -> list[tuple[int, str]]:
    """Return a text in pieces of whole policies, each with the line it begins on.

    A policy ends with the only semicolon that is neither in a string nor in a comment. Cedar reads each piece by itself, so the
    interpreter is held for milliseconds; a text that is no Cedar is none in pieces either, for a cut inside a string or a
    comment leaves it open.
    """
    pieces, begin, line, ends = [], 0, 1, 0
    for token in _TOKEN.finditer(text):
        if token[0] == ";":
            ends += 1
            if ends % _READ == 0:
                pieces.append((line, text[begin : token.end()]))
                line += text.count("\n", begin, token.end())
                begin = token.end()
    return [*pieces, (line, text[begin:])]


def _forms(where: str, text: str) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as fault:
        raise Malformed(f"{where}: {_first_line(fault)}", "correct it; `keyclave policy validate` finds the rest") from None
    except RecursionError:
        raise Malformed(f"{where}: an expression is nested too deeply", "say it with fewer parentheses") from None
    if parsed.get("templates") or parsed.get("templateLinks"):
        raise Malformed(f"{where} holds a policy with ?principal or ?resource", "write the policy out, or use a grant")
    return list(parsed["staticPolicies"].values())


def _document(policies: Iterable[Policy]) -> str:
    static = ",".join(f"{json.dumps(policy.id)}:{policy.form}" for policy in policies)
    return f'{{"staticPolicies":{{{static}}},"templates":{{}},"templateLinks":[]}}'


def _text(form: dict[str, Any]) -> str:
    return json.dumps(form, sort_keys=True, separators=(",", ":"))


def _policy(file: str, form: dict[str, Any], kinds: Mapping[str, Kind]) -> Policy:
    annotations = form.get("annotations", {})
    name = annotations.get("id") or ""
    if not name or len(name) > 64 or not all(c.isascii() and (c.isalnum() or c in "._-") for c in name) or name == BUILT_IN:
        raise Malformed(
            f"{file}: a policy has no usable @id", 'begin each with @id("…"): letters, digits, points, dashes; its own'
        )
    if _reads(form.get("conditions", []), RESERVED):
        raise Malformed(
            f"{file}: policy {name!r} reads context.{RESERVED}", "that is for built-in policies; say what you mean otherwise"
        )
    unknown = _asked_in_vain(form.get("conditions", []))
    if unknown:
        raise Malformed(f"{file}: policy {name!r} asks for {unknown}, which nothing has", "it would never hold: correct the name")
    constraint = annotations.get("context")
    if constraint is not None and form["effect"] != "permit":
        raise Malformed(
            f"{file}: policy {name!r} forbids, and has @context", "a condition on the encryption context belongs to a permit"
        )
    return Policy(
        id=name,
        file=file,
        effect=form["effect"],
        actions=_actions(file, name, form["action"], kinds),
        form=_text(form),
        context={} if constraint is None else _constraint(file, name, constraint),
    )


def _actions(file: str, name: str, scope: dict[str, Any], kinds: Mapping[str, Kind]) -> frozenset[str]:
    """Return the operations a policy's action scope reaches."""
    if scope["op"] == "All":
        return frozenset(kinds)
    named = scope.get("entities") or [scope["entity"]]
    found: set[str] = set()
    for entity in named:
        members = {op for op, kind in kinds.items() if entity["id"] in (op, kind.group)}
        if not members:
            raise Malformed(
                f"{file}: policy {name!r} names the action {entity['id']!r}, which does not exist", "see spec/policy.md"
            )
        found |= members
    return frozenset(found)


def _constraint(file: str, name: str, text: str) -> dict[str, tuple[str, ...]]:
    """Read `name=value|value; other=*`: values are percent-decoded, `*` means that the name must be present."""
    found: dict[str, tuple[str, ...]] = {}
    for part in text.split(";"):
        key, equals, values = part.strip().partition("=")
        choices = tuple(unquote(value, errors="strict") for value in values.split("|"))
        if not key or not equals or not all(choices) or unquote(key) in found or len(found) >= 16 or len(choices) > 256:
            raise Malformed(
                f"{file}: @context of policy {name!r} is not understood", 'write it like @context("ward=a|b; patient=*")'
            )
        found[unquote(key)] = choices
    return found


def _reads(form: Any, attribute: str) -> bool:
    """Tell whether an expression reads `context.<attribute>`, whichever way it is written."""
    if isinstance(form, dict):
        for operator in (".", "has"):
            access = form.get(operator)
            if isinstance(access, dict) and access.get("attr") == attribute:
                return True
        return any(_reads(value, attribute) for value in form.values())
    if isinstance(form, list):
        return any(_reads(value, attribute) for value in form)
    return False


def _asked_in_vain(form: Any) -> str:
    """Return an attribute whose presence is asked and that nothing has: Cedar takes such a condition for false, silently."""
    if isinstance(form, dict):
        asked = form.get("has")
        if isinstance(asked, dict) and asked.get("left", {}).get("Var") in _ATTRIBUTES:
            subject, attribute = asked["left"]["Var"], asked.get("attr")
            if attribute not in _ATTRIBUTES[subject]:
                return f"{subject}.{attribute}"
        return next(filter(None, map(_asked_in_vain, form.values())), "")
    if isinstance(form, list):
        return next(filter(None, map(_asked_in_vain, form)), "")
    return ""


def _first_line(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]
