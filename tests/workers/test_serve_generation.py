"""The serving node writes texts as the version says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pst import tasks
from pst.config import TrainSettings
from pst.export.huggingface import export
from pst.model.data import Row
from pst.model.loading import CPU, load_tokenizer, read_config
from pst.native.inference import on_torch
from tests.pst.texts import VOCABULARY, backwards, write_generator

SOURCES = [row["source"] for row in backwards(12, 5)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_generator(tmp_path_factory.mktemp("base"), "bart")


@pytest.mark.parametrize("dense", [False, True], ids=["compact", "dense"])
def test_beams_are_those_of_the_job(base: Path, tmp_path: Path, dense: bool) -> None:
    served: dict[int, Any] = {}
    for beams in (1, 4):
        settings = TrainSettings(max_target_length=6, beams=beams)
        task = tasks.make("generation", [], load_tokenizer(base), 16, settings, read_config(base))
        model, folder = task.load(base, 0), tmp_path / str(beams)
        export(model, base, [], torch.float32, 16, folder, task="generation")
        if dense:
            (folder / "sparse").rename(tmp_path / f"unread-{beams}")
        served[beams] = on_torch(folder, CPU, packs=False).answers([Row(text, None) for text in SOURCES])
        assert served[beams] == task.answer(model, task.encode([Row(text, None) for text in SOURCES]))
    assert served[1] != served[4]


@pytest.mark.parametrize(
    "published,longest",
    [
        ({"num_beams": 4, "max_new_tokens": 5}, 5),
        ({"num_beams": 4, "max_length": 39}, 20),
        ({"max_length": 3, "forced_bos_token_id": 6}, 20),
    ],
)
def test_a_base_models_own_settings_hold(base: Path, tmp_path: Path, published: dict[str, Any], longest: int) -> None:
    folder = write_generator(tmp_path, "bart")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | published))
    loaded = on_torch(folder, CPU, packs=False)
    answers = [str(text).split() for text in loaded.answers([Row(text, None) for text in SOURCES])]
    assert max(map(len, answers)) == longest
    if "forced_bos_token_id" in published:
        assert {words[0] for words in answers} == {VOCABULARY[6]}
