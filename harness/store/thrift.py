"""Thrift's compact protocol, in which Parquet writes the headers of its pages and the footer of its files.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
STOP = b"\0"


@dataclass(frozen=True, slots=True)
class Value:
    """A value with its type: a number, bytes, a `Struct` or one that is encoded, or the plain values of a list."""

    type: int
    value: Any
    of: int = 0  # of a list: the type of its values


Struct = Mapping[int, Value]  # by number of the field


def parsed(content: bytes, at: int = 0) -> tuple[dict[int, Value], int]:
    """The struct that begins at a byte, and where it ends. ValueError or IndexError where there is none."""
    fields, number = dict[int, Value](), 0
    while head := content[at]:
        at += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, at = _integer(content, at)
        fields[number], at = _value(content, at, kind)
    return fields, at + 1


def encoded(fields: Struct, before: int = 0) -> bytes:
    """The fields of a struct, in ascending order, as they are written behind one of the number `before`. Behind the
    last of a struct follows STOP.
    """
    parts = list[bytes]()
    for number, field in fields.items():
        parts.append(bytes([number - before << 4 | field.type]) + _bytes(field.type, field.value, field.of))
        before = number
    return b"".join(parts)


def _value(content: bytes, at: int, kind: int) -> tuple[Value, int]:
    if kind in (TRUE, FALSE):
        return Value(kind, kind == TRUE), at
    if kind in (I16, I32, I64):
        number, at = _integer(content, at)
        return Value(kind, number), at
    if kind == BINARY:
        length, at = _unsigned(content, at)
        return Value(kind, content[at : at + length]), at + length
    if kind == STRUCT:
        fields, at = parsed(content, at)
        return Value(kind, fields), at
    if kind == LIST:
        head, at = content[at], at + 1
        length, of, values = head >> 4, head & 15, []
        if length == 15:
            length, at = _unsigned(content, at)
        for _ in range(length):
            one, at = _value(content, at, of)
            values.append(one.value)
        return Value(kind, values, of), at
    raise ValueError(f"a field of type {kind} is not in Parquet's headers")


def _bytes(kind: int, value: Any, of: int) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind in (I16, I32, I64):
        return _zigzag(value)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return value if isinstance(value, bytes) else encoded(value) + STOP
    if kind == LIST:
        head = bytes([len(value) << 4 | of]) if len(value) < 15 else bytes([0xF0 | of]) + _varint(len(value))
        return head + b"".join(_bytes(of, each, 0) for each in value)
    raise ValueError(f"a field of type {kind} is not in Parquet's headers")


def _unsigned(content: bytes, at: int) -> tuple[int, int]:
    number, shift = 0, 0
    while True:
        byte, at = content[at], at + 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7


def _integer(content: bytes, at: int) -> tuple[int, int]:
    number, at = _unsigned(content, at)
    return (number >> 1) ^ -(number & 1), at


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 128:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _zigzag(number: int) -> bytes:
    return _varint((number << 1) ^ (number >> 63))
