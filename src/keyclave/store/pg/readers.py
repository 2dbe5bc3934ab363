"""Who may read a file of secrets: its owner alone, or whom an access control list names besides.

systemd gives a service its credentials (`LoadCredential=`) as files of root with an access control list that names the service's
user. Of such a file the mode's bits of the group are the list's mask (acl(5)) and say nothing of the group: they read like a file
that the group may read.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

_LIST = "system.posix_acl_access"
_HEAD, _ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # version; tag, rights, id (linux/posix_acl_xattr.h)
_VERSION = 2
_OWNER, _USER, _MASK = 0x01, 0x02, 0x10
_OTHERS = 0o077


def only_ours(path: Path) -> bool:
    """Tell whether nobody reads or writes `path` but its owner, root and this process's user. Raises `OSError`."""
    found = path.stat()
    if not found.st_mode & _OTHERS:
        return True
    try:
        entries = _entries(os.getxattr(path, _LIST))
    except OSError:  # no list: the mode says it all
        return False
    known = {0, found.st_uid, os.geteuid()}
    return entries is not None and not any(
        rights and tag not in (_OWNER, _MASK) and not (tag == _USER and who in known) for tag, rights, who in entries
    )


def _entries(raw: bytes) -> list[tuple[int, int, int]] | None:
    if len(raw) < _HEAD.size or _HEAD.unpack_from(raw)[0] != _VERSION or (len(raw) - _HEAD.size) % _ENTRY.size:
        return None
    return list(_ENTRY.iter_unpack(raw[_HEAD.size :]))
