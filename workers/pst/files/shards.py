"""Tensors in safetensors files of a bounded size, as plain transformers splits a large model:

    model.safetensors                       where all fits one file
    model-00001-of-00003.safetensors, …     else, and model.safetensors.index.json says which holds what

The writer holds one file's tensors, the reader one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pst.errors import FormatError
from pst.messages import Message

SHARD_BYTES = 5_000_000_000
METADATA = {"format": "pt"}
INDEX_SUFFIX = ".index.json"


class Tensors(Protocol):
    """Tensors by name that are read, or made, one at a time."""

    def __contains__(self, name: object) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Without reading the tensor."""

    def tensor(self, name: str, device: torch.device) -> Tensor:
        """The whole tensor. Raises :class:`pst.errors.FormatError` where it is damaged."""


class Given:
    """The tensors of a state, themselves where they lie on the device that is asked for."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.state = state

    def __contains__(self, name: object) -> bool:
        return name in self.state

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.state[name].shape)

    def tensor(self, name: str, device: torch.device) -> Tensor:
        return self.state[name].to(device)


class ShardWriter:
    """Writes tensors into ``folder / file``, or into several files once they are more than ``limit`` bytes."""

    def __init__(self, folder: Path, file: str, limit: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file, self.limit = folder, file, limit
        self.files: dict[str, int] = {}  # number of the file of each tensor, from 0
        self.bytes = 0  # of all tensors
        self._held: dict[str, Tensor] = {}
        self._size = self._count = 0

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors, which stay in one file; they are copied to the CPU. Raises :class:`FormatError` for a name
        that was there before."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if self._held and self._size + size > self.limit:
            self._flush()
        for name, tensor in tensors.items():
            if name in self.files:
                raise FormatError(Message("The tensor name {name} clashes with a part of another tensor.", name=name))
            self._held[name] = tensor.detach().cpu().contiguous()
            self.files[name] = self._count
        self._size += size
        self.bytes += size

    def close(self) -> list[Path]:
        """Write what is left, and give the files their names. Returns them in order."""
        if self._held or not self._count:
            self._flush()
        paths = [self.folder / name for name in self.names()]
        for number, path in enumerate(paths):
            self._partial(number).replace(path)
        return paths

    def names(self) -> list[str]:
        """The names of the files, once all has been added."""
        count = self._count + bool(self._held)
        if count <= 1:
            return [self.file]
        stem = self.file.removesuffix(".safetensors")
        return [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]

    def _flush(self) -> None:
        save_file(self._held, self._partial(self._count), metadata=METADATA)
        self._held = {}
        self._size = 0
        self._count += 1

    def _partial(self, number: int) -> Path:
        return self.folder / f"{self.file}.{number}.partial"


def write_shards(tensors: Mapping[str, Tensor], path: Path, limit: int = SHARD_BYTES) -> int:
    """Write ``path``, or several files and an index beside it: the same tensors always give the same bytes. Returns
    the files' size without the index. Of ``tensors``, one is taken at a time."""
    writer = ShardWriter(path.parent, path.name, limit)
    for name in tensors:
        writer.add({name: tensors[name]})
    files = writer.close()
    if len(files) > 1:
        weight_map = {name: files[number].name for name, number in writer.files.items()}
        content = {"metadata": {"total_size": writer.bytes}, "weight_map": weight_map}
        index = path.with_name(path.name + INDEX_SUFFIX)
        index.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    return sum(file.stat().st_size for file in files)


def has_files(path: Path) -> bool:
    """Whether :class:`Files` may find something at ``path``."""
    return path.is_file() or path.with_name(path.name + INDEX_SUFFIX).is_file()


class Files:
    """The tensors of ``path``, or of the files that its index lists. They stay open, and tensors are mapped.

    Raises :class:`FormatError` when a file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._open = path, dict[str, Any]()
        index = path.with_name(path.name + INDEX_SUFFIX)
        try:
            if index.is_file() and not path.is_file():
                self._files: dict[str, str] = json.loads(index.read_text("utf-8"))["weight_map"]
                if any(Path(file).name != file for file in self._files.values()):
                    raise ValueError("a file lies in another folder")
            else:
                self._files = dict.fromkeys(self._file(path.name).keys(), path.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise FormatError(
                Message("The weights {path} can't be read: {error}", path=path.name, error=error)
            ) from error

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        try:
            return tuple(self._file(self._files[name]).get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise FormatError(
                Message(
                    "The tensor {name} of {path} can't be read: {error}", name=name, path=self.path.name, error=error
                )
            ) from error

    def tensor(self, name: str, device: torch.device) -> Tensor:
        try:
            found: Tensor = self._file(self._files[name]).get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise FormatError(
                Message(
                    "The tensor {name} of {path} can't be read: {error}", name=name, path=self.path.name, error=error
                )
            ) from error
        return found.to(device)

    def _file(self, name: str) -> Any:
        if name not in self._open:
            self._open[name] = safe_open(self.path.with_name(name), framework="pt")
        return self._open[name]
