from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.torch import load_file, save_file
from torch import Tensor

from pst.errors import FormatError
from pst.formats import bits, expand, read_sparse, write_dense, write_sparse


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[n].dtype == other[n].dtype and one[n].shape == other[n].shape and torch.equal(bits(one[n]), bits(other[n]))
        for n in one
    )


def pruned(n: int, k: int, sparsity: float, dtype: torch.dtype) -> Tensor:
    torch.manual_seed(n * k)
    weight = torch.randn(n, k)
    weight.view(-1)[torch.randperm(n * k)[: int(n * k * sparsity)]] = 0.0
    return weight.to(dtype)


raw_bits = hnp.arrays(
    dtype=np.uint16,
    shape=hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
    # any bit pattern, NaN and -0.0 among them, and zero often
    elements=st.one_of(st.just(0), st.just(0), st.just(0), st.just(0x8000), st.integers(0, 2**16 - 1)),
    fill=st.just(0),
)


@settings(max_examples=60, deadline=None)
@given(array=raw_bits, dtype=st.sampled_from([torch.bfloat16, torch.float16]))
def test_any_16_bit_matrix_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.mktemp("sparse")
    state = {"w": torch.from_numpy(array.view(np.int16).copy()).view(dtype), "b": torch.arange(3.0)}
    write_sparse(state, folder)
    assert same_bits(read_sparse(folder), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_round_trip_of_a_model(tmp_path: Path, dtype: torch.dtype, sparsity: float) -> None:
    state = {
        "a.weight": pruned(24, 40, sparsity, dtype),
        "a.bias": torch.zeros(24, dtype=dtype),
        "one.row": pruned(1, 7, sparsity, dtype),
        "scalar": torch.tensor(3.0),
        "cube": torch.zeros(2, 3, 4, dtype=dtype),
        "ids": torch.arange(9, dtype=torch.int64).reshape(3, 3),
    }
    state["a.weight"][0, 0] = -0.0
    write_sparse(state, tmp_path)
    assert same_bits(read_sparse(tmp_path), state)


@pytest.mark.parametrize("sparsity,encoding", [(0.0, "dense"), (0.6, "bitmask"), (0.99, "csr16")])
def test_the_smallest_encoding_is_taken(tmp_path: Path, sparsity: float, encoding: str) -> None:
    write_sparse({"w": pruned(64, 96, sparsity, torch.float32)}, tmp_path)
    entry = json.loads((tmp_path / "index.json").read_text())["tensors"]["w"]
    held = load_file(tmp_path / "model.sparse.safetensors")
    assert entry["encoding"] == encoding
    assert entry["bytes"] == sum(part.numel() * part.element_size() for part in held.values())


def test_a_matrix_too_wide_for_16_bit_columns_is_no_csr(tmp_path: Path) -> None:
    state = {"w": pruned(2, 65537, 0.999, torch.float32)}
    write_sparse(state, tmp_path)
    assert json.loads((tmp_path / "index.json").read_text())["tensors"]["w"]["encoding"] == "bitmask"
    assert same_bits(read_sparse(tmp_path), state)


@pytest.mark.parametrize("shape", [(384, 384), (1536, 384), (768, 3072)])
@pytest.mark.parametrize("sparsity,most", [(0.9, 0.17), (0.99, 0.04)])
def test_pruned_matrices_are_really_smaller(
    tmp_path: Path, shape: tuple[int, int], sparsity: float, most: float
) -> None:
    weight = pruned(*shape, sparsity, torch.bfloat16)
    assert write_sparse({"w": weight}, tmp_path) <= most * weight.numel() * 2


def test_expand_rebuilds_the_dense_file_byte_for_byte(tmp_path: Path) -> None:
    state = {"z.weight": pruned(16, 24, 0.9, torch.bfloat16), "a": torch.ones(5), "m": torch.zeros(3, 3)}
    write_dense(state, tmp_path / "model.safetensors")
    write_sparse(state, tmp_path / "sparse")
    before = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").unlink()
    assert expand(tmp_path).read_bytes() == before


def damage_value(folder: Path) -> None:
    path = folder / "model.sparse.safetensors"
    held = load_file(path)
    held["w.values"][3] += 1
    save_file(held, path)


def damage_index(folder: Path) -> None:
    path = folder / "index.json"
    path.write_text(path.read_text().replace('"sha256": "', '"sha256": "0'))


def damage_mask(folder: Path) -> None:
    path = folder / "model.sparse.safetensors"
    held = load_file(path)
    held["w.bitmask"][0] ^= 255
    held["w.bitmask"][1] ^= 1
    save_file(held, path)


def drop_part(folder: Path) -> None:
    path = folder / "model.sparse.safetensors"
    held = load_file(path)
    del held["w.bitmask"]
    save_file(held, path)


def cut_file(folder: Path) -> None:
    path = folder / "model.sparse.safetensors"
    path.write_bytes(path.read_bytes()[:-7])


def other_version(folder: Path) -> None:
    path = folder / "index.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))


@pytest.mark.parametrize("damage", [damage_value, damage_index, damage_mask, drop_part, cut_file, other_version])
def test_damage_is_found(tmp_path: Path, damage: Any) -> None:
    write_sparse({"w": pruned(32, 48, 0.8, torch.float32)}, tmp_path)
    read_sparse(tmp_path)
    damage(tmp_path)
    with pytest.raises(FormatError):
        read_sparse(tmp_path)


def test_a_missing_folder_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="can't be read"):
        read_sparse(tmp_path / "none")


def test_clashing_names_are_refused(tmp_path: Path) -> None:
    state = {"w": pruned(32, 48, 0.8, torch.float32), "w.values": torch.ones(2)}
    with pytest.raises(FormatError, match="clashes"):
        write_sparse(state, tmp_path)
