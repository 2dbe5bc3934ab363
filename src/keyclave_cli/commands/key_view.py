"""How a key is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyclave_cli import output
from keyclave_cli.session import Session

if TYPE_CHECKING:
    from keyclave_client.views import KeyVersion, KeyView

_DATES = (
    ("destroyed_at", "destroyed"), ("destroy_at", "destruction due"), ("compromised_at", "compromised"),
    ("deactivated_at", "deactivated"), ("activated_at", "active since"),
)  # fmt: skip


def show_key(view: KeyView, session: Session, *, done: str | None = None, dry_run: bool = False) -> None:
    """Show a key; `done` is what was just done to it."""
    if session.json:
        output.write_json(view)
        return
    if dry_run:
        output.say(f"nothing was changed; {view.name} would be:")
    elif done:
        output.say(f"{done} {view.name}")
    output.write_fields(
        [
            ("Id", view.id),
            ("Spec", f"{view.spec}, to {view.purpose}"),
            ("Owner", view.owner),
            ("Environment", view.environment),
            ("Protects", view.classification),
            ("Tags", view.tags or None),
            ("Cryptoperiod", _cryptoperiod(view)),
            ("Rotation", f"every {view.rotation['every_days']} days" if view.rotation else None),
            ("Stale use", "nodes that are cut off may decrypt" if view.stale_ok else None),
            ("Created", f"{view.created_at} by {view.created_by}" if view.created_at else None),
            ("Revision", view.rev),
        ]
    )
    rows = [
        (_number(version, view.primary), version.state, version.kcv, version.origin, _date(version)) for version in view.versions
    ]
    output.write_table(("Version", "State", "Check value", "Origin", "When"), rows, empty="no versions")


def _cryptoperiod(view: KeyView) -> str | None:
    period = view.cryptoperiod
    return f"protects {period['protect_days']} days, opens {period['process_days']} days" if period else None


def _number(version: KeyVersion, primary: int | None) -> str:
    return f"{version.version} (primary)" if version.version == primary else str(version.version)


def _date(version: KeyVersion) -> str | None:
    for name, word in _DATES:
        at = getattr(version, name)
        if at is not None:
            return f"{word} {at}"
    return f"created {version.created_at}" if version.created_at else None
