"""Arrays in PostgreSQL's binary format, as parameters of statements that `unnest` many rows.

psycopg calls a function for each value. Most columns have a few different values, each of which is encoded once here.
And psycopg's types depend on the values, so that PostgreSQL prepares a statement several times; these have none.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper

_HEAD: Final = struct.Struct("!iiIii")
"""Dimensions, whether there may be NULLs, the type of the values, their number, the index of the first."""
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Array(bytes):
    """An array as it is sent. The statement says its type by a cast: `%(id)b::uuid[]`."""


class _ArrayDumper(Dumper):
    format = pq.Format.BINARY

    def dump(self, obj: Array) -> Array:
        return obj


psycopg.adapters.register_dumper(Array, _ArrayDumper)


def _pack_text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(4) + encoded


def _pack_time(value: datetime) -> bytes:
    return struct.pack("!iq", 8, (value - _EPOCH) // _MICROSECOND)


def _pack_uuid(value: UUID | str) -> bytes:
    return b"\0\0\0\x10" + (bytes.fromhex(value) if isinstance(value, str) else value.int.to_bytes(16))


_PACKERS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "text": _pack_text,
    "timestamptz": _pack_time,
    "uuid": _pack_uuid,
    "smallint": partial(struct.Struct("!ih").pack, 2),
    "integer": partial(struct.Struct("!ii").pack, 4),
    "bigint": partial(struct.Struct("!iq").pack, 8),
    "double precision": partial(struct.Struct("!id").pack, 8),
}


def pack(type_: str, values: Sequence[Any]) -> Array:
    """Return these values, or None, as an array of one of the types in `_PACKERS`. A UUID may be 32 hex digits.

    Raises ValueError for a text that is not Unicode, and for a number that the type cannot have.
    """
    packer = _PACKERS[type_]
    try:
        if type_ == "uuid":  # nearly all are different
            items = [_NULL if value is None else packer(value) for value in values]
        else:
            packed = {value: _NULL if value is None else packer(value) for value in set(values)}
            items = [packed[value] for value in values]
    except struct.error as error:  # which is no ValueError
        raise ValueError(f"a value is no {type_}: {error}") from error
    head = _HEAD.pack(1, 1, psycopg.adapters.types[type_].oid, len(values), 1)
    return Array(head + b"".join(items))


def unnest(types: Mapping[str, str]) -> str:
    """Return SELECT expressions that turn one array for each column, by name and type, into rows."""
    return ", ".join(f"unnest(%({name})b::{type_}[]) AS {name}" for name, type_ in types.items())


def columns(types: Mapping[str, str], rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
    """Return the parameters of `unnest`; each row, of which there is at least one, has a value for each column."""
    values = zip(*rows, strict=True)
    return {name: pack(type_, column) for (name, type_), column in zip(types.items(), values, strict=True)}
