"""How an answer is written: JSON, in one way for every protocol."""

from __future__ import annotations

import msgspec

encode_answer = msgspec.json.Encoder().encode
