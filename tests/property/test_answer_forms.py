"""What comes again with other values in a few places is written as the encoder writes it, byte for byte."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from keyclave.audit.event_ids import event_id
from keyclave.core.clock import MICROSECONDS, to_text
from keyclave.core.form import Form, number_mark, text_mark
from keyclave.operations.alike import DatedForm
from keyclave.operations.answers import AnswerForm, encode_answer
from keyclave.operations.data_key import DataKeyAnswer
from keyclave.operations.encrypt import EncryptAnswer

TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(['"event":"@"', '"ciphertext":"@"', "@", '\\"', ""]))


@given(TEXTS, st.integers(0, 2**31), st.lists(st.tuples(st.integers(0, 2**53), st.binary(max_size=90)), min_size=1, max_size=4))
def test_a_form_writes_what_the_encoder_writes(key: str, version: int, parts: list[tuple[int, bytes]]) -> None:
    form = AnswerForm(EncryptAnswer(ciphertext="", key=key, version=version), "ciphertext")
    for number, envelope in parts:
        event, text = event_id("n1", number), base64.b64encode(envelope)
        answer = EncryptAnswer(event=event, ciphertext=text.decode(), key=key, version=version)
        assert form.write(event, text) == encode_answer(answer)


@given(TEXTS, st.integers(0, 2**31), st.binary(max_size=90), st.binary(min_size=1, max_size=90))
def test_a_form_of_several_texts_writes_them_in_their_places(key: str, version: int, wrapped: bytes, plain: bytes) -> None:
    form = AnswerForm(DataKeyAnswer(wrapped="", key=key, version=version), "wrapped", "plaintext")
    texts = base64.b64encode(wrapped), base64.b64encode(plain)
    fields = dict(zip(("wrapped", "plaintext"), (text.decode() for text in texts), strict=True))
    assert form.write("n1-7", *texts) == encode_answer(DataKeyAnswer(event="n1-7", key=key, version=version, **fields))


@given(
    st.lists(st.integers(0, 40_000 * 86_400), min_size=1, max_size=3),
    st.lists(st.integers(0, 2_000 * 10**12), min_size=1, max_size=3),
    st.lists(st.integers(0, 2_500_000), max_size=4),
)
def test_dates_are_written_as_each_by_itself(after: list[int], moments: list[int], steps: list[int]) -> None:
    """At moments of the same second, of the next one, and of others."""
    marks = [text_mark() for _ in after]
    form_of = DatedForm(" ".join(["100 %", *marks]), marks, dict(zip(marks, after, strict=True)))
    for at in [moment + step for moment in moments for step in (0, *steps)]:
        form, end = form_of.at(at)
        dates = [to_text(at + seconds * MICROSECONDS) for seconds in after]
        assert form.fill(*[end] * len(after)).decode() == " ".join(["100 %", *dates])


@given(
    st.dictionaries(TEXTS, TEXTS, max_size=5), st.integers(0, 2**53), st.from_regex(r"[A-Za-z0-9._:-]{1,20}", fullmatch=True), TEXTS,
)  # fmt: skip
def test_a_form_has_places_for_numbers_and_texts_among_whatever_else(
    said: dict[str, str], number: int, text: str, after: str
) -> None:
    def written(at: int, name: str) -> bytes:
        return encode_answer([said, at, {"%d": name}, after])

    at, name = number_mark(), text_mark()
    form = Form(written(at, name), at, name)
    assert form.fill(number, text.encode()) == written(number, text)
