"""What an attempt needs before its child starts: rows, base model, checkpoint, ``spec.json``. No torch here.

Everything is checked by sha256: rows and checkpoint against the job's spec, a base model of the registry against the
manifest of its commit.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from pst.messages import Message
from pst_client import layout, manifest
from pst_client.client import Platform
from pst_client.contract import Claim, JobSpec, ModelRef
from pst_client.errors import PlatformError, Unreachable

PUBLIC_FILES = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
"""Weights, configs and tokenizers, those of sentencepiece too, and chat templates."""
SUBFOLDERS = ["*/*"]
SPLITS = ("train", "validation", "test")
RESUME_FILE = "resume.safetensors"


def prepare(platform: Platform, claim: Claim, folder: Path, cache: Path) -> None:
    """Fill ``folder`` so that ``pst.pipeline.run`` can start. Raises PlatformError with a sentence for the user."""
    spec = claim.spec
    disable_progress_bars()  # the worker's log is a file
    base = fetch_base_model(platform, spec.base_model, cache, job_token=claim.job_token)
    for name in SPLITS:
        if split := getattr(spec.dataset, name):
            target = folder / "data" / f"{name}.jsonl"
            platform.worker.download_split(spec.job_id, name, split, target, job_token=claim.job_token)
    if spec.checkpoint is not None:
        for file, name in [(spec.checkpoint, RESUME_FILE), *((file, file.path) for file in spec.checkpoint_needs)]:
            target = manifest.inside(folder, name)
            platform.worker.download_artifact(spec.job_id, file, target, job_token=claim.job_token)
    (folder / "spec.json").write_text(json.dumps(run_spec(spec, base)), encoding="utf-8")


def run_spec(spec: JobSpec, base: Path) -> dict[str, Any]:
    """The contents of ``spec.json``, as ``pst.pipeline`` reads it."""
    # A public model's config wasn't known when the job was submitted: the child plans it from the target.
    known = spec.base_model.source == "registry"
    return {
        "base_model": str(base),
        "task": spec.task,
        "labels": spec.dataset.labels,
        **{name: f"data/{name}.jsonl" if getattr(spec.dataset, name) else None for name in SPLITS},
        "settings": dataclasses.asdict(spec.settings),
        "target": {name: part for name, part in spec.target.to_json().items() if part is not None},
        "plan": (spec.planned or spec.plan or None) if known else None,
    }


def fetch_base_model(platform: Platform, model: ModelRef, cache: Path, *, job_token: str) -> Path:
    """Folder of the base model in the cache, downloaded when it isn't there yet."""
    if model.source == "public":
        return _public(model, cache / "public")
    folder = cache / "registry"
    try:
        found = Path(
            snapshot_download(
                model.repo,
                revision=model.revision,
                endpoint=f"{platform.url}/hf",
                token=job_token,
                cache_dir=folder,
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _trouble(
            Message(
                "The base model {model} could not be pulled from the platform: {error}",
                model=model.repo,
                error=_first_line(error),
            ),
            error,
        ) from error
    checked = folder / ".checked" / model.revision
    listed = manifest.read(found, commit=model.revision)
    if problem := layout.problem([file.path for file in listed.files]):
        raise PlatformError("base_model", problem)
    if not checked.exists():
        # Hashing gigabytes for every job would be waste: files of a commit are never written again.
        manifest.verify(found, listed.files)
        checked.parent.mkdir(parents=True, exist_ok=True)
        checked.touch()
    return found


def _public(model: ModelRef, cache: Path) -> Path:
    """A model of the public Hub, by name: weights and texts only, never a program."""
    name = f"{model.repo}@{model.revision}"
    try:
        found = snapshot_download(
            model.repo,
            revision=model.revision,
            cache_dir=cache,
            allow_patterns=PUBLIC_FILES,
            ignore_patterns=SUBFOLDERS,
        )
    except RepositoryNotFoundError as error:
        raise PlatformError(
            "base_model",
            Message("The public model {name} does not exist, or this worker has no access to it.", name=name),
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise _trouble(
            Message("The public model {name} could not be downloaded: {error}", name=name, error=_first_line(error)),
            error,
        ) from error
    folder = Path(found)
    if not any(folder.glob("*.safetensors")):
        raise PlatformError(
            "base_model", Message("The public model {name} has no safetensors weights, which are required.", name=name)
        )
    return folder


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _trouble(message: Message, error: Exception) -> PlatformError:
    """A failed download; without an answer, or with a server's error, another attempt may succeed."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None or status >= 500:
        return Unreachable(message)
    return PlatformError("base_model", message, status=status)
