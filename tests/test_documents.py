"""What a document names is there: files, commands, modules, and the names of the code that it sends its readers to."""

from __future__ import annotations

import ast
import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from django.core.management import get_commands

from pst_client.cli import LOCAL, parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]
FOLDERS = "tests|docs|platform|workers|jobs|frontend|deploy|requirements"
of_each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS]
)

pytestmark = pytest.mark.any_database


@of_each_document
def test_every_path_that_a_document_names_is_there(document: Path) -> None:
    text = document.read_text("utf-8")
    linked = [document.parent / path for path in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)]
    named = [ROOT / path for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]+)`", text)]
    missing = sorted({str(path) for path in (*linked, *named) if not path.exists()})
    assert not missing


FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks_of(text: str) -> str:
    """What stands in a document as lines of code: fenced, or indented."""
    return "\n".join([*FENCE.findall(text), *re.findall(r"^ {4}.*$", FENCE.sub("", text), re.MULTILINE)])


def code_of(text: str) -> str:
    """The same, and what stands between backticks."""
    return "\n".join([blocks_of(text), *re.findall(r"`([^`\n]+)`", FENCE.sub("", text))])


def unknown_commands(text: str) -> list[str]:
    """The commands of a document that nothing would run."""
    code = code_of(text)
    known = {
        "make": set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)),
        "npm run": set(json.loads((ROOT / "frontend/package.json").read_text("utf-8"))["scripts"]),
        "manage.py": set(get_commands()),
        "pst": {choice for action in parser()._actions for choice in (action.choices or ())},
    }
    found = []
    for command, names in known.items():
        begin = r"^\s*(?:\S*/)?" if command == "pst" else r"(?:^|[\s/(])"  # elsewhere pst is the method
        for said in re.findall(rf"{begin}{re.escape(command)} ((?:[a-z_-]+\|)*[a-z_-]+)\b", code, re.MULTILINE):
            found += [f"{command} {name}" for name in said.split("|") if name not in names]
    modules = re.findall(r"(?:python[\d.]*|torchrun.*) -m ([a-z_][\w.]*)", code)
    return found + [f"python -m {module}" for module in modules if not is_module(module)]


def is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@of_each_document
def test_every_command_that_a_document_names_is_there(document: Path) -> None:
    if document.name == "CHANGELOG.md":
        pytest.skip("names commands that are gone, and says so")
    assert not unknown_commands(document.read_text("utf-8"))


@pytest.mark.parametrize(
    "text",
    [
        "run `make demos`",
        "```\n.venv/bin/pst fetch ./folder\n```",
        "see:\n\n    python -m pst.nothing FOLDER\n",
        "`manage.py node_tokens --role worker`",
        "    npm run everything",
        "`pst train|bake FOLDER`",
    ],
)
def test_an_unknown_command_is_seen(text: str) -> None:
    assert unknown_commands(text)


def lines_of_pst(document: Path) -> list[list[str]]:
    """The command lines of the platform's commands in a document, as words."""
    lines = re.findall(r"^\s*(?:\S*/)?pst ([a-z]+ .*)$", blocks_of(document.read_text("utf-8")), re.MULTILINE)
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line[0] not in LOCAL]


@of_each_document
def test_a_command_line_is_one_that_pst_takes(document: Path) -> None:
    for words in lines_of_pst(document):
        parser().parse_args(words)  # exits where it does not


def test_command_lines_are_found() -> None:
    assert len(lines_of_pst(ROOT / "README.md")) > 2


def test_the_map_sends_nobody_to_a_name_that_is_gone() -> None:
    """ "`name` in `file`", and "`file`, `name`" of the tables in ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    pairs = [(path, name) for name, path in re.findall(r"`(\w+)` (?:in|of) `([\w/.]+\.py)`", text)]
    pairs += re.findall(r"`([\w/.]+\.py)`, `([\w.]+)` \|", text)
    assert len(pairs) > 5
    missing = [f"{name} in {path}" for path, name in pairs if name not in defined(ROOT / path)]
    assert not missing


def defined(file: Path) -> set[str]:
    found = set()
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return found
