"""One job from its folder to a verified export: prepare, dense, train, merge, export, verify, report.

The folder holds ``spec.json`` and the rows; the run writes ``checkpoints/``, ``dense/``, ``export/``, ``verify/`` and
``report.json``. A run that finds a checkpoint goes on from it, and ends as if it had never been interrupted.

Each phase is a function of what was asked for (:class:`pst.pipeline.context.Run`) and of the records that the phases
before it gave: :class:`Prepared`, the dense model's answers, :class:`Trained`, :class:`Merged`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pst import report
from pst import spec as specs
from pst.config import Phase
from pst.errors import PSTError
from pst.files.shards import Tensors
from pst.messages import Message
from pst.pipeline.context import Clock, Emit, Run, phases_of
from pst.pipeline.dense import is_known, known_answers, train_dense
from pst.pipeline.prepared import Prepared, prepare, resume
from pst.pipeline.publish import EXPORT_FOLDER, VERIFY_FOLDER, Merged, Shown, exported, merged, verified
from pst.pipeline.results import result_of
from pst.pipeline.trained import Trained, train
from pst.report.carbon import Carbon
from pst.training import checkpoint
from pst.training.parallel import ALONE, Peers
from pst.training.trainer import Stopped

__all__ = ["EXPORT_FOLDER", "VERIFY_FOLDER", "Merged", "Prepared", "Stopped", "Trained", "export", "run"]


def run(
    folder: Path,
    *,
    emit: Emit,
    should_stop: Callable[[], bool],
    quick: bool = False,
    peers: Peers = ALONE,
    weights: Tensors | None = None,
    merged: Shown | None = None,
) -> dict[str, Any]:
    """Do the whole job; returns the report, which is also written to ``folder/report.json``.

    ``quick`` leaves out the verifier and all that only the report measures: for trials whose model nobody will use.
    With ``peers`` each process calls this; all but the first return an empty report once training has ended.
    ``weights`` are the base model's where its folder has but config and tokenizer; ``merged`` is shown what is going to
    be exported.
    Raises :class:`Stopped` after ``should_stop()`` was true (a checkpoint has been written), and
    :class:`pst.errors.PSTError` for what the user can put right.
    """
    with Carbon(on=not quick and peers.is_main) as carbon:
        begun = _begin(folder, emit, should_stop, carbon, quick=quick, peers=peers, weights=weights)
        return _walk(begun, shown=merged)


def export(folder: Path, *, emit: Emit) -> dict[str, Any]:
    """Merge, export and verify again from the best state of the newest checkpoint; returns the report.

    Raises :class:`pst.errors.PSTError` when no checkpoint has reached the final sparsity.
    """
    found = checkpoint.newest(folder)
    trained = None if found is None or found.state["phase"] != "train" else found.state["trainer"]
    if trained is None or trained["best_score"] is None:
        raise PSTError(
            Message("No checkpoint in {folder} has reached the final sparsity; run train first.", folder=folder)
        )
    with Carbon(on=True) as carbon:
        return _walk(_begin(folder, emit, lambda: False, carbon), export_only=True)


def _begin(
    folder: Path,
    emit: Emit,
    should_stop: Callable[[], bool],
    carbon: Carbon,
    *,
    quick: bool = False,
    peers: Peers = ALONE,
    weights: Tensors | None = None,
) -> Run:
    spec = specs.read(folder)
    told: Emit = emit if peers.is_main else lambda event: None
    return Run(
        folder=folder.resolve(),
        spec=spec,
        emit=told,
        should_stop=should_stop,
        carbon=carbon,
        clock=Clock(phases_of(spec.settings, quick), told),
        quick=quick,
        peers=peers,
        weights=weights,
    )


def _walk(run: Run, *, export_only: bool = False, shown: Shown | None = None) -> dict[str, Any]:
    """The phases, one after the other."""
    phase = run.clock.phase
    with phase(Phase.PREPARE):
        prepared = prepare(run)
        resumed, checkpoints = resume(run)
    run.peers.barrier()  # nobody writes before all have read
    answers = resumed.answers
    if run.compares:
        answers = known_answers(run, prepared, resumed)
        if not is_known(run, prepared, resumed, answers, export_only=export_only):
            with phase(Phase.DENSE):
                further = "train" in checkpoints
                answers = train_dense(run, prepared, resumed, answers, checkpoints.pop("dense", None), further=further)
    with phase(Phase.TRAIN):
        checkpoints.pop("dense", None)  # what it holds is not needed any more
        trained = train(run, prepared, resumed, answers, checkpoints.pop("train", None), export_only=export_only)
    if not run.peers.is_main:
        return {}
    trained.trainer.load_best()
    with phase(Phase.MERGE):
        found = merged(run, prepared, trained, shown)
    with phase(Phase.EXPORT):
        sizes = exported(run, prepared, found)
    outcome = None
    if not run.quick:
        with phase(Phase.VERIFY):
            outcome = verified(run, prepared, trained, found)
    with phase(Phase.REPORT):
        result = result_of(run, prepared, trained, found, sizes, outcome)
    result["seconds"] = run.clock.ended()
    for path in (run.folder, run.folder / EXPORT_FOLDER):
        report.write(result, path / report.REPORT_FILE)
    return result
