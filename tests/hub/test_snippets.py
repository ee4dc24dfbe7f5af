"""The snippets that pages show run as pasted, once the token is filled in: with curl, Python, huggingface_hub,
transformers and pst, against a live server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer
from transformers import BertConfig, BertForSequenceClassification

from hub.registry.models import ModelVersion
from hub.serving.models import Node
from tests.factories.accounts import Person, person
from tests.factories.registry import files, published
from tests.factories.serving import Answering, serving_node

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.any_database]  # test_hf_api.py runs on both
FRONTEND = Path(__file__).parents[2] / "frontend"
SHOW = """
const { readFileSync } = require("node:fs");
const ts = require("typescript");
function load(path) {
  const module = { exports: {} };
  const options = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), { compilerOptions: options });
  const find = (name) => load(name.replace("@/", "src/") + ".ts");
  new Function("module", "exports", "require", outputText)(module, module.exports, find);
  return module.exports;
}
const [path, name, given] = process.argv.slice(1);
console.log(JSON.stringify(load(path)[name](...JSON.parse(given))));
"""


def shown(path: str, name: str, *given: Any) -> dict[str, str]:
    """The texts by label, as that function of the frontend makes them."""
    node = shutil.which("node")
    if node is None or not (FRONTEND / "node_modules" / "typescript").exists():
        pytest.skip("No node with the frontend's packages: make frontend")
    command = [node, "-e", SHOW, path, name, json.dumps(given)]
    out = subprocess.run(command, cwd=FRONTEND, check=True, capture_output=True, text=True).stdout
    return {snippet["label"]: snippet["text"] for snippet in json.loads(out)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What transformers loads: a tiny model with its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    BertForSequenceClassification(config).save_pretrained(folder)
    vocabulary = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "text", "b"])
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**made, "vocab.txt": vocabulary.encode(), "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer"}'}


@pytest.fixture
def owner(db: None) -> Person:
    return person("olga", workspace="acme")


@pytest.fixture
def version(owner: Person, weights: dict[str, bytes]) -> ModelVersion:
    contents = {path: content for path, content in files(**weights).items() if path != "tokenizer.json"}
    return published(owner.workspace, contents=contents)


def paste(label: str, text: str, token: str, folder: Path) -> str:
    """Run a snippet in a folder of its own, with nothing set beforehand."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "SPARSEWRIGHT_", "TRANSFORMERS_"))
    } | {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
    }
    python = label in {"transformers", "huggingface_hub", "Python"}
    whole = text.replace("YOUR_TOKEN", token)
    assert whole != text
    command = [sys.executable, "-c", whole] if python else ["bash", "-ec", whole]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{whole}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("label", ["transformers", "huggingface_hub", "pst pull", "curl"])
def test_a_model_is_fetched(
    owner: Person, version: ModelVersion, live_server: LiveServer, tmp_path: Path, label: str
) -> None:
    compact = "sparse/model.sparse.safetensors"
    given = (live_server.url, "acme/tickets", "latest", "BertForSequenceClassification", [compact])
    texts = shown("src/features/models/snippets.ts", "snippets", *given)
    out = paste(label, texts[label], owner.token, tmp_path)
    if label == "curl":
        assert (tmp_path / "model.sparse.safetensors").read_bytes() == files()[compact]
    elif label == "pst pull":
        assert (tmp_path / "tickets" / compact).exists() and not (tmp_path / "tickets/model.safetensors").exists()
    elif label == "huggingface_hub":
        folder = Path(out.strip().splitlines()[-1])
        assert (folder / compact).exists() and not (folder / "model.safetensors").exists()


@pytest.fixture
def answering() -> Iterator[Answering]:
    found = Answering()
    yield found
    found.close()


@pytest.mark.parametrize("label", ["curl", "Python", "pst predict"])
def test_a_deployment_is_asked(
    owner: Person, version: ModelVersion, live_server: LiveServer, answering: Answering, tmp_path: Path, label: str
) -> None:
    node = serving_node("edge-1")
    Node.objects.update(url=answering.url)
    made = owner.client.post("/api/v1/deployments", {"model": "acme/tickets", "name": "desk"}).json()
    node.hold()
    texts = shown("src/lib/asking.ts", "askSnippets", live_server.url, made["id"], "acme/desk")
    assert "shipping" in paste(label, texts[label], owner.token, tmp_path)
    assert answering.asked[0][0] == "/v1/models/acme/desk/predict"
