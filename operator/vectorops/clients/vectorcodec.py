"""Vectors on the wire in pgvector's binary format, both ways.

Parameters of type vector and halfvec take a numpy array, a list of floats, or bytes that are in pgvector's format
already (what a backfill packs once and sends as it is); elements of vector[] and halfvec[] must be such bytes, for
asyncpg takes anything else for a further dimension of the array. Results are numpy arrays. numpy and pgvector
are imported on first use. Refused: checking what the numbers mean (NaN, zero, dimensions); the caller knows its column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from vectorops.clients.sqlstate import speaking

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vectorops.clients.postgres import Connection

HEADER_BYTES = 4
"""uint16 dimensions, uint16 unused: pgvector's vector_send and halfvec_send."""


async def register_vectors(connection: Connection, extension_schema: str) -> None:
    """Teach this connection the types of the extension in `extension_schema`; halfvec only where it exists (0.7.0)."""
    with speaking("looking up the vector types"):
        await _register(connection, "vector", extension_schema, pack_vector, unpack_vector)
        try:
            await _register(connection, "halfvec", extension_schema, pack_halfvec, unpack_halfvec)
        except ValueError as exc:
            if not str(exc).startswith("unknown type"):
                raise


async def _register(
    connection: Connection, name: str, schema: str, pack: Callable[[Any], bytes], unpack: Callable[[bytes], Any]
) -> None:
    await connection.set_type_codec(name, schema=schema, encoder=pack, decoder=unpack, format="binary")


def pack_vector(value: bytes | NDArray[Any] | list[float]) -> bytes:
    """pgvector's binary form of a vector (float4); bytes pass as they are."""
    return _pack(value, ">f4")


def pack_halfvec(value: bytes | NDArray[Any] | list[float]) -> bytes:
    """pgvector's binary form of a halfvec (float2); bytes pass as they are."""
    return _pack(value, ">f2")


def _pack(value: bytes | NDArray[Any] | list[float], dtype: str) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    import numpy as np

    array = np.asarray(value)
    if array.ndim != 1:
        raise ValueError("a vector has one dimension")
    return len(array).to_bytes(2, "big") + b"\0\0" + array.astype(dtype).tobytes()


def unpack_vector(data: bytes) -> NDArray[np.float32]:
    """A float32 array from pgvector's binary form of a vector."""
    import numpy as np

    return np.frombuffer(data, dtype=">f4", offset=HEADER_BYTES).astype(np.float32)


def unpack_halfvec(data: bytes) -> NDArray[np.float32]:
    """A float32 array from pgvector's binary form of a halfvec."""
    import numpy as np

    return cast("NDArray[np.float32]", np.frombuffer(data, dtype=">f2", offset=HEADER_BYTES).astype(np.float32))
