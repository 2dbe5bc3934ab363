"""The few words of a DICOM header that the demonstration needs: whose image it is, and of which kind.

Reads the data set of a file (DICOM PS3.10, section 7) in the three plain encodings of PS3.5: implicit little endian, explicit
little endian and explicit big endian. Pixels are never looked at; compressed images have an explicit little endian header.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MARK = b"DICM"
PREAMBLE = 128  # bytes before the mark

MODALITY, PATIENT_NAME, PATIENT_ID, STUDY = (0x0008, 0x0060), (0x0010, 0x0010), (0x0010, 0x0020), (0x0020, 0x000D)
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_WANTED = {MODALITY, PATIENT_NAME, PATIENT_ID, STUDY}

_IMPLICIT, _BIG_ENDIAN, _DEFLATED = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"
_LONG_FORM = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # PS3.5, 7.1.2
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)

Tag = tuple[int, int]


class Encoding(NamedTuple):
    """How the elements of a data set are written."""

    order: str  # of struct: < or >
    explicit: bool


class Element(NamedTuple):
    """One element's tag and where its value stands; `length` may be undefined."""

    tag: Tag
    at: int
    length: int


def read_header(data: bytes) -> dict[Tag, bytes]:
    """Return modality, patient's name, patient's id and study of a DICOM file, those that it has, as raw bytes without padding.

    Raises ValueError for what is no DICOM file, is cut off, or is in an encoding that this reader does not know.
    """
    try:
        return _read_header(data)
    except (struct.error, RecursionError) as broken:  # cut off inside an element; sequences nested without end
        raise ValueError(f"not a whole DICOM header: {broken}") from None


def _read_header(data: bytes) -> dict[Tag, bytes]:
    if data[PREAMBLE : PREAMBLE + 4] != MARK:
        raise ValueError("not a DICOM file: the mark is missing")
    syntax, start = b"", PREAMBLE + 4
    for element in _elements(data, start, Encoding("<", True)):
        if element.tag[0] != 0x0002:
            break
        start = element.at + element.length
        if element.tag == _TRANSFER_SYNTAX:
            syntax = _value(data, element)
    if not syntax or syntax == _DEFLATED:
        raise ValueError("the transfer syntax is missing, or compresses the header")
    found = {}
    for element in _elements(data, start, Encoding(">" if syntax == _BIG_ENDIAN else "<", syntax != _IMPLICIT)):
        if element.tag > STUDY:
            break
        if element.tag in _WANTED:
            found[element.tag] = _value(data, element)
    if STUDY not in found:
        raise ValueError("the study is missing, which every image has")
    return found


def _value(data: bytes, element: Element) -> bytes:
    return data[element.at : element.at + element.length].strip(b" \0")


def _elements(data: bytes, at: int, encoding: Encoding) -> Iterator[Element]:
    """Yield the elements of a data set in their order, stepping over sequences."""
    while at + 8 <= len(data):
        element = _element(data, at, encoding)
        yield element
        at = _after(data, element, encoding)


def _element(data: bytes, at: int, encoding: Encoding) -> Element:
    tag: Tag = struct.unpack_from(encoding.order + "HH", data, at)
    if not encoding.explicit or tag[0] == 0xFFFE:  # items and their ends never carry a type
        (length,) = struct.unpack_from(encoding.order + "I", data, at + 4)
        return Element(tag, at + 8, length)
    if data[at + 4 : at + 6] in _LONG_FORM:
        (length,) = struct.unpack_from(encoding.order + "I", data, at + 8)
        return Element(tag, at + 12, length)
    (length,) = struct.unpack_from(encoding.order + "H", data, at + 6)
    return Element(tag, at + 8, length)


def _after(data: bytes, element: Element, encoding: Encoding) -> int:
    """Return where the next element begins. What has no length ends where its end is marked, one level at a time."""
    if element.length != _UNDEFINED:
        return element.at + element.length
    end = _ITEM_END if element.tag == _ITEM else _SEQUENCE_END
    for inner in _elements(data, element.at, encoding):
        if inner.tag == end:
            return inner.at
    raise ValueError("a sequence has no end")
