"""The quick canonical JSON is RFC 8785, by the word of an independent implementation, refusals too."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from keyclave.core.canonical_json import canonical_json
from keyclave.core.errors import Malformed

TEXT = st.text(st.characters(codec=None), max_size=12)
LEAF = st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats() | TEXT
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12)


@pytest.mark.requirement("R31")
@given(VALUE)
@example({"\ue000": 1, "\U00010000": 2}).via("names that UTF-8 and UTF-16 sort differently")
@example({"a": 2**53}).via("a number that not every reader takes for itself")
@example({"a": [2**53 - 1, -(2**53) + 1, True, (), {}]}).via("numbers that just are")
@example({"a": '\x00\x08\x0b\x1f\x7f\x80\u2028"\\/'}).via("what JSON escapes, and what it does not")
@example({"a": "\ud800"}).via("half a surrogate")
@example({"\ud800": 1, "\xe9": 2}).via("half a surrogate in a name")
@example([1.0, 1, 1e21, -0.0]).via("fractions that are whole")
def test_it_is_rfc_8785(value: Any) -> None:
    try:
        wanted = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        with pytest.raises(Malformed):
            canonical_json(value)
    else:
        assert canonical_json(value) == wanted
