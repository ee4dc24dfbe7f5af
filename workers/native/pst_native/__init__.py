"""The sparse CPU engine's library, as Python sees it: packed weights, single products, whole encoders.

The library itself is C++ (``src/``), built when this package is installed. Nothing here imports torch or numpy:
tensors are passed by address, and the caller keeps them alive.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int, c_int32, c_int64, c_void_p
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).with_name("libpst_native.so")


class Unavailable(RuntimeError):
    """The library is not built, or does not load; the message says which."""


class Form(IntEnum):
    """How a packed weight is laid out, see ``src/engine.h``."""

    CELLS = 0
    TILES = 1


class Precision(IntEnum):
    """Of a weight's values, and of the activations that they are multiplied by."""

    FLOAT32 = 0
    BFLOAT16 = 1
    INT8 = 2


class Activation(IntEnum):
    NONE = 0
    GELU = 1
    GELU_TANH = 2
    RELU = 3
    TANH = 4


class Map(Structure):
    """A linear map: a packed weight, or none, and the address of its bias (n float32), or none."""

    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class Norm(Structure):
    _fields_ = [("weight", c_void_p), ("bias", c_void_p)]


class Layer(Structure):
    _fields_ = [
        ("query", Map),
        ("key", Map),
        ("value", Map),
        ("output", Map),
        ("up", Map),
        ("down", Map),
        ("attention_norm", Norm),
        ("output_norm", Norm),
        ("heads", c_int32),
        ("padding", c_int32),
    ]


class Encoder(Structure):
    """See ``src/encoder.cpp``, whose record of the same name this is."""

    _fields_ = [
        ("layers", c_int32),
        ("hidden", c_int32),
        ("width", c_int32),
        ("head", c_int32),
        ("vocabulary", c_int32),
        ("positions", c_int32),
        ("types", c_int32),
        ("first_position", c_int32),
        ("activation", c_int32),
        ("words_precision", c_int32),
        ("labels", c_int32),
        ("head_activation", c_int32),
        ("epsilon", c_float),
        ("fast_attention", c_int32),
        ("padding_id", c_int32),
        ("spare", c_int32),
        ("words", c_void_p),
        ("words_scales", c_void_p),
        ("position_table", c_void_p),
        ("type_table", c_void_p),
        ("embedding_norm", Norm),
        ("projection", Map),
        ("relative_bias", c_void_p),
        ("layer", POINTER(Layer)),
        ("dense", Map),
        ("classifier", Map),
    ]


@cache
def library() -> ctypes.CDLL:
    """The loaded library. Raises :class:`Unavailable`."""
    if not LIBRARY.is_file():
        raise Unavailable(f"{LIBRARY.name} was not built: the package found no C++ compiler when it was installed")
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise Unavailable(f"{LIBRARY.name} does not load: {error}") from error
    for name, result, arguments in (
        ("sw_instructions", c_char_p, [c_int]),
        ("sw_in_use", c_char_p, []),
        ("sw_use", c_bool, [c_char_p]),
        ("sw_has", c_bool, [c_int, c_int]),
        ("sw_pack", c_void_p, [c_int, c_int, c_int, c_int, c_void_p, c_void_p]),
        ("sw_free", None, [c_void_p]),
        ("sw_bytes", c_int64, [c_void_p]),
        ("sw_linear", c_bool, [c_void_p, c_void_p, c_int, c_void_p, c_int, c_int, c_void_p]),
        ("sw_encoder_fits", c_bool, [POINTER(Encoder)]),
        ("sw_workspace_bytes", c_int64, [POINTER(Encoder), c_int, c_int, c_int, c_int]),
        ("sw_encoder_run", c_bool, [POINTER(Encoder), *[c_void_p] * 3, c_int, c_int, c_void_p, c_void_p]),
    ):
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


def instructions() -> list[str]:
    """The sets of instructions that this machine has, from the least to the best."""
    found: list[str] = []
    while name := library().sw_instructions(len(found)):
        found.append(name.decode())
    return found


def in_use() -> str:
    """The set of instructions that products use: the best one, unless :func:`use` said otherwise."""
    return str(library().sw_in_use().decode())


def use(name: str) -> None:
    """Use a lesser set of instructions for all that is packed and run from now on. Raises ValueError for one that
    this machine lacks. For tests and benchmarks: a weight packed before keeps a form that the new set may lack."""
    if not library().sw_use(name.encode()):
        raise ValueError(f"this machine has {', '.join(instructions())}, and no {name}")


def has(form: Form, precision: Precision) -> bool:
    """Whether the instructions in use multiply weights of this form and precision."""
    return bool(library().sw_has(form, precision))


class Weight:
    """A packed weight (n, k). ``dense`` is the address of its n k float32 values, ``scales`` that of n float32 scales
    of INT8 values, or None to take them from each row's largest value; both are read once.

    Raises ValueError where the instructions in use have no such product, or the sizes are none; MemoryError.
    """

    def __init__(self, form: Form, precision: Precision, n: int, k: int, dense: int, scales: int | None = None) -> None:
        self.form, self.precision, self.n, self.k = form, precision, n, k
        if n < 1 or k < 1 or n * k >= 2**31 or not has(form, precision):
            raise ValueError(f"no {form.name.lower()} of {precision.name.lower()} for a weight of {n} x {k}")
        self.address = library().sw_pack(form, precision, n, k, dense, scales)
        if not self.address:
            raise MemoryError(f"no memory to pack a weight of {n} x {k}")

    def __del__(self) -> None:
        if getattr(self, "address", None):
            library().sw_free(self.address)
            self.address = None

    def __deepcopy__(self, memo: object) -> Weight:
        return self  # it never changes

    def __reduce__(self) -> Any:
        raise TypeError("a packed weight is this process's own and can't be pickled")

    @property
    def bytes(self) -> int:
        return int(library().sw_bytes(self.address))

    def product(
        self,
        x: int,
        tokens: int,
        out: int,
        *,
        bias: int | None = None,
        activation: Activation = Activation.NONE,
        threads: int = 1,
    ) -> None:
        """``out`` (tokens, n) = activation(``x`` (tokens, k) W^T + ``bias`` (n)), addresses of float32. Raises
        MemoryError."""
        if tokens and not library().sw_linear(self.address, x, tokens, bias, activation, threads, out):
            raise MemoryError(f"no memory to multiply {tokens} tokens")
