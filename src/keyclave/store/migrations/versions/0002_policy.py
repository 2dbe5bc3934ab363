"""policy revisions: what a tenant's policy was, from when, by whose decision"""

from __future__ import annotations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass
