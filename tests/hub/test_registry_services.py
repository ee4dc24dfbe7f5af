"""Publishing, revisions, aliases and deletion."""

from __future__ import annotations

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import default_storage
from django.db import connection

from hub.accounts.actor import actor_of_user
from hub.accounts.models import AuditEvent
from hub.core import storage
from hub.core.errors import Conflict, NotFound, UserError
from hub.registry import access, signing
from hub.registry.files import check_paths, parse_object
from hub.registry.models import Model, ModelKind, ModelVersion
from hub.registry.services import aliases, models, versions
from pst_client.contract import FileRef, Manifest
from tests.factories.accounts import Person
from tests.factories.registry import files, published, stored

pytestmark = pytest.mark.django_db


def content(version: ModelVersion, path: str) -> bytes:
    with storage.open_blob(version.files.get(path=path).blob_id) as stream:
        return stream.read()


def test_publish_writes_manifest_signature_card_and_report(owner: Person) -> None:
    version = published(owner.workspace, lineage={"dataset": {"name": "tickets"}, "base_model": "base/minilm-l6"})
    raw = content(version, "manifest.json")
    assert hashlib.sha256(raw).hexdigest()[:40] == version.commit
    manifest = Manifest.model_validate_json(raw)
    assert manifest.model_dump(mode="json") == version.manifest
    assert (manifest.repo, manifest.version) == ("acme/tickets", 1)
    assert [file.path for file in manifest.files] == sorted([*files(), "README.md", "report.json"])
    for file in manifest.files:
        data = content(version, file.path)
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.size)
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signing.public_key()["public_key"]))
    signature = base64.b64decode(content(version, "manifest.sig"))
    key.verify(signature, raw)
    with pytest.raises(InvalidSignature):
        key.verify(signature, raw + b" ")
    assert version.config["model_type"] == "bert"
    assert json.loads(content(version, "report.json")) == version.report


def test_versions_count_up_and_latest_follows(owner: Person) -> None:
    first = published(owner.workspace)
    second = published(owner.workspace)
    assert (first.number, second.number) == (1, 2) and first.commit != second.commit
    assert second.model.aliases.get(name="latest").version == second
    for revision, expected in {
        "main": second,
        "latest": second,
        "v1": first,
        "1": first,
        "2": second,
        first.commit: first,
    }.items():
        assert versions.resolve(first.model, revision) == expected
    event = AuditEvent.objects.filter(action="version.published").first()
    assert event is not None and event.data == {"model": "acme/tickets", "version": 2, "commit": second.commit}


@pytest.mark.parametrize("revision", ["v3", "0", "production", "a" * 40, "main\n", "\0", "refs/pr/1", "", "9" * 30])
def test_unknown_revision(owner: Person, revision: str) -> None:
    with pytest.raises(versions.RevisionNotFound):
        versions.resolve(published(owner.workspace).model, revision)


@pytest.mark.django_db(transaction=True)
def test_versions_published_at_once_get_numbers_of_their_own(owner: Person) -> None:
    def work(index: int) -> int:
        try:
            return published(owner.workspace, contents=files(**{"notes.md": b"%d" % index})).number
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(work, range(8))) == list(range(1, 9))
    model = Model.objects.get()
    assert versions.resolve(model, "latest").number == 8 and model.aliases.get(name="latest").version.number == 8


def test_a_job_publishes_once(owner: Person) -> None:
    job = uuid4()
    first = published(owner.workspace, job_id=job)
    assert published(owner.workspace, job_id=job) == first
    assert ModelVersion.objects.count() == 1
    with pytest.raises(Conflict, match="published"):
        published(owner.workspace, "other", job_id=job)


def test_card_and_report_that_are_given_are_kept(owner: Person) -> None:
    version = published(owner.workspace, contents=files(**{"README.md": b"# mine", "report.json": b"{}"}))
    assert content(version, "README.md") == b"# mine" and content(version, "report.json") == b"{}"


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "a/../b",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        "",
        "a//b",
        "./a",
        "a/",
        "x" * 256,
        "manifest.json",
        "manifest.sig",
    ],
)
def test_bad_paths_are_refused(owner: Person, path: str) -> None:
    with pytest.raises(UserError):
        published(owner.workspace, contents=files(**{path: b"x"}))
    assert ModelVersion.objects.count() == 0


def test_clashing_paths_are_refused() -> None:
    with pytest.raises(UserError, match="twice"):
        check_paths(["a.txt", "A.txt"])
    with pytest.raises(UserError, match="both a file and a folder"):
        check_paths(["a", "a/b"])


def test_files_must_have_been_uploaded_at_that_size(owner: Person) -> None:
    missing = FileRef(path="x", sha256=hashlib.sha256(b"never").hexdigest(), size=5)
    with pytest.raises(UserError, match="never uploaded"):
        versions.verify([missing])
    (there,) = stored({"x": b"12345"})
    with pytest.raises(UserError, match="5 bytes"):
        versions.verify([there.model_copy(update={"size": 6})])
    assert versions.verify([there]) == (there,)


def test_a_file_that_the_storage_holds_damaged_is_not_signed(owner: Person) -> None:
    """Half a file under a valid signature: what a full disk and a killed process once left behind."""
    (there,) = stored({"model.safetensors": bytes(range(256)) * 8})
    path = Path(default_storage.path(storage.blob_name(there.sha256)))
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(UserError, match="damaged"):
        versions.verify([there])
    path.write_bytes(b"\0" * there.size)
    with pytest.raises(UserError, match="damaged"):
        versions.verify([there])
    stored({"model.safetensors": bytes(range(256)) * 8})
    assert versions.verify([there]) == (there,)


@pytest.mark.parametrize("raw", [b"[]", b"{", b"\xff", b'{"a": NaN}', b'{"a": "\\u0000"}', b'{"a": "\\ud800"}'])
def test_json_that_is_refused(raw: bytes) -> None:
    with pytest.raises(UserError, match=r"config\.json"):
        parse_object(raw, name="config.json")


def test_json_that_only_looks_bad() -> None:
    assert parse_object(b'{"a": "\\\\u0000"}', name="x") == {"a": "\\u0000"}


def test_names_and_kinds(owner: Person) -> None:
    for name in ("", "a/b", ".a", "a\n", "x" * 97):
        with pytest.raises(UserError):
            models.ensure_model(workspace=owner.workspace, name=name, kind=ModelKind.SPARSE)
    model = models.ensure_model(workspace=owner.workspace, name="m", kind=ModelKind.SPARSE)
    assert models.ensure_model(workspace=owner.workspace, name="m", kind=ModelKind.SPARSE) == model
    with pytest.raises(Conflict):
        models.ensure_model(workspace=owner.workspace, name="m", kind=ModelKind.BASE)


def test_card_front_matter(owner: Person) -> None:
    version = published(
        owner.workspace,
        lineage={
            "license": "Apache-2.0",
            "base_model": {"source": "registry", "repo": "base/minilm-l6", "revision": "c" * 40},
            "job": {"id": "1234", "name": "first try", "attempt": 1},
            "dataset": {"name": "a | b <script>"},
        },
    )
    _, head, text = content(version, "README.md").decode().split("---\n", 2)
    data = yaml.safe_load(head)
    assert data["license"] == "apache-2.0" and data["base_model"] == "base/minilm-l6"
    assert data["datasets"] == ["a | b <script>"] and data["metrics"] == ["accuracy", "f1"]
    (entry,) = data["model-index"]
    values = {(r["dataset"]["split"], m["type"]): m["value"] for r in entry["results"] for m in r["metrics"]}
    assert values[("test", "accuracy")] == 0.9 and values[("validation", "f1")] == 0.9
    assert "| test accuracy | 91.00% | 90.00% |" in text and "<script>" not in text
    assert f"- Base model: base/minilm-l6 (`{'c' * 40}`)" in text and "- Job: first try (`1234`)" in text


def test_the_hub_library_reads_the_card(owner: Person) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard(content(published(owner.workspace), "README.md").decode())
    assert card.data.eval_results is not None and card.data.model_name == "tickets"
    assert {result.metric_type for result in card.data.eval_results} == {"accuracy", "f1"}


@pytest.mark.parametrize("report", [{}, {"metrics": None, "bytes": []}, {"metrics": {"test": {"accuracy": "high"}}}])
def test_a_card_says_what_is_there(owner: Person, report: dict[str, object]) -> None:
    version = published(owner.workspace, report=report, lineage={"dataset": 3})
    assert "model-index" not in content(version, "README.md").decode()


def test_moving_and_deleting_aliases(owner: Person) -> None:
    actor = actor_of_user(owner.user)
    first, second = published(owner.workspace), published(owner.workspace)
    for version in (first, second):
        aliases.move_alias(actor=actor, model=first.model, name="production", version=version)
    assert versions.resolve(first.model, "production") == second
    event = AuditEvent.objects.filter(action="alias.moved").first()
    assert event is not None and (event.data["from"], event.data["version"]) == (1, 2)
    for name in ("latest", "main", "v3", "7", "a" * 40, "Prod", "a b", "a\n", ""):
        with pytest.raises(UserError):
            aliases.move_alias(actor=actor, model=first.model, name=name, version=first)
    aliases.delete_alias(actor=actor, model=first.model, name="production")
    for name in ("production", "\0"):
        with pytest.raises(NotFound):
            aliases.delete_alias(actor=actor, model=first.model, name=name)
    with pytest.raises(UserError):
        aliases.delete_alias(actor=actor, model=first.model, name="latest")


def test_registered_rules(owner: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    actor = actor_of_user(owner.user)
    version = published(owner.workspace)

    def guard(model: Model, alias: str | None) -> None:
        raise Conflict(f"{model} {alias} is needed")

    monkeypatch.setattr(access, "_guards", [])
    access.register_guard(guard)
    access.register_guard(guard)
    aliases.move_alias(actor=actor, model=version.model, name="production", version=version)
    with pytest.raises(Conflict, match="acme/tickets production is needed"):
        aliases.delete_alias(actor=actor, model=version.model, name="production")
    with pytest.raises(Conflict, match="acme/tickets None is needed"):
        models.delete_model(actor=actor, model=version.model)
    assert len(access._guards) == 1


def test_signing_key_from_the_environment(settings) -> None:
    settings.SIGNING_KEY = base64.b64encode(bytes(32)).decode()
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signing.public_key()["public_key"]))
    public.verify(base64.b64decode(signing.sign(b"text")), b"text")
    for wrong in ("not base64!", base64.b64encode(bytes(31)).decode()):
        settings.SIGNING_KEY = wrong
        with pytest.raises(ImproperlyConfigured, match="SPARSEWRIGHT_SIGNING_KEY"):
            signing.sign(b"text")


def test_signing_key_is_made_once_and_private(settings, tmp_path) -> None:
    settings.DATA_DIR = tmp_path / "new"
    first = signing.public_key()
    assert signing.public_key() == first
    (key,) = settings.DATA_DIR.iterdir()
    assert key.name == "signing.key" and key.stat().st_mode & 0o777 == 0o600
