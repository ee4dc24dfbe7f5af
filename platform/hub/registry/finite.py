"""Whether the numbers of a safetensors file are numbers: what is NaN or infinite makes every answer of a model NaN."""

from __future__ import annotations

from typing import IO

from hub.core.errors import UserError
from hub.registry.weights import Weights
from pst.messages import Message

EXPONENTS = {"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""How the bits of a number are read, and those that are all set in NaN and the infinities alone."""
PARAMETERS = ("weight", "bias", "gamma", "beta")
"""How the names of trained tensors end; others are masks, which may hold an infinity."""
CHUNK = 1 << 20


def check_finite(stream: IO[bytes], weights: Weights, *, name: str) -> None:
    """Read the file's trained tensors, a chunk at a time. Raises UserError naming the first that is not finite."""
    import numpy as np  # the processes that check no weights do without

    for tensor, (begin, end, dtype) in weights.places.items():
        if dtype not in EXPONENTS or tensor.rpartition(".")[2] not in PARAMETERS:
            continue
        kind, mask = EXPONENTS[dtype]
        stream.seek(8 + weights.header_bytes + begin)
        for at in range(begin, end, CHUNK):
            bits = np.frombuffer(stream.read(min(CHUNK, end - at)), dtype=kind)
            if bool(((bits & bits.dtype.type(mask)) == mask).any()):
                message = Message(
                    "The tensor {tensor} in {name} holds NaN or an infinite number; save the model from a sound "
                    "checkpoint.",
                    tensor=tensor,
                    name=name,
                )
                raise UserError(message, code="bad_weights", details=[{"file": name, "message": message}])
