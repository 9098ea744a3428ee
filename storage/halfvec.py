"""Vectors on the wire: a batch goes to Postgres as one binary array, built at once.

An array parameter needs neither COPY nor a temporary table, so a write is one statement that the
server has received in full before it takes its first lock.
"""

import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pgvector import HalfVector
from pgvector.psycopg.halfvec import register_halfvec_info
from psycopg import Connection
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo

Matrix: TypeAlias = npt.NDArray[np.float32]
"""Vectors as rows: shape (count, dims), each of length 1."""

Vector: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HalfVectors:
    """A batch of vectors as the parameter of type halfvec[]."""

    rows: Matrix


def half(vector: Vector) -> HalfVector:
    """One vector as a parameter of type halfvec."""
    return HalfVector(vector)


def as_vector(value: HalfVector) -> Vector:
    """A halfvec that was read, as single precision."""
    return value.to_numpy().astype(np.float32)


def encode(rows: Matrix, type_oid: int) -> bytes:
    """The binary form of halfvec[]: array header, then per element its length, dims, 0 and the big-endian halves.

    Source: array_recv in Postgres' arrayfuncs.c and halfvec_recv in pgvector's halfvec.c.
    """
    count, dims = rows.shape
    elements = np.zeros(
        count, dtype=[("length", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("values", ">f2", (dims,))]
    )
    elements["length"] = 4 + 2 * dims
    elements["dims"] = dims
    elements["values"] = rows
    header = struct.pack(">iiIii", 1, 0, type_oid, count, 1) if count else struct.pack(">iiI", 0, 0, type_oid)
    return header + elements.tobytes()


def register_vectors(connection: Connection[Any], halfvec: TypeInfo) -> None:
    """Teach a connection our parameters and pgvector's halfvec."""
    register_halfvec_info(connection, halfvec)

    class HalfVectorsDumper(Dumper):
        format = Format.BINARY
        oid = halfvec.array_oid

        def dump(self, obj: HalfVectors) -> bytes:
            return encode(obj.rows, halfvec.oid)

    connection.adapters.register_dumper(HalfVectors, HalfVectorsDumper)
