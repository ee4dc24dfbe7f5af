"""Phase dense: the fine-tuned dense model that the sparse one is compared with, and learns from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from transformers import PreTrainedModel

from pst.layers.inject import learning_rates
from pst.pipeline.context import Run
from pst.pipeline.prepared import Prepared, Resumed, open_base
from pst.pipeline.saving import Saver, answers_of
from pst.tasks import Answers
from pst.training import checkpoint, teacher
from pst.training.trainer import Trainer


def known_answers(run: Run, prepared: Prepared, resumed: Resumed) -> dict[str, Answers]:
    """What an earlier attempt left of the dense model's answers."""
    if prepared.answered(resumed.answers):
        return resumed.answers
    return teacher.load_answers(run.folder, resumed.dense_key)


def is_known(
    run: Run, prepared: Prepared, resumed: Resumed, answers: Mapping[str, Answers], *, export_only: bool
) -> bool:
    """Whether nothing more is asked of the dense model: it has answered, and its weights are there if the student
    learns from them."""
    if not prepared.answered(answers):
        return False
    live = teacher.teaches_live(prepared.task, run.settings) and not export_only
    return not live or teacher.holds_model(run.folder, resumed.dense_key)


def train_dense(
    run: Run,
    prepared: Prepared,
    resumed: Resumed,
    answers: dict[str, Answers],
    found: checkpoint.Checkpoint | None,
    *,
    further: bool,
) -> dict[str, Answers]:
    """Fine-tune the dense model, unless that has been done, and keep and return its answers; ``further``: there is a
    checkpoint of the sparse one already."""
    task, key, first = prepared.task, resumed.dense_key, run.peers.is_main
    settings = replace(run.settings, method="dense", weight_decay=0.0)
    base = open_base(run, prepared)
    model: PreTrainedModel = base.opened.finish()
    save = Saver(run, prepared, resumed, answers, base.origin)
    if teacher.holds_model(run.folder, key):
        teacher.fill(model, run.folder, prepared.model, base.origin)
    else:
        trainer = Trainer(
            model,
            [],
            learning_rates(model, prepared.model.tensors, settings),
            task,
            settings,
            {},
            save.hooks(),
            phase="dense",
            epochs=settings.dense_epochs,
            peers=run.peers,
        )
        if found is not None:
            trainer.load(found.tensors(base.origin), found.state["trainer"])
        trainer.run()
        if first:
            trainer.load_best()
            teacher.save_model(run.folder, key, model, prepared.model, base.origin)
            if not further:
                save(None)
        trainer.release()
    if first:
        answers = answers_of(model, prepared, prepared.needed)
        if task.name != "generation":
            answers["train"] = task.predict(model, prepared.encoded["train"])
        teacher.save_answers(run.folder, key, answers)
        if not further:
            replace(save, answers=answers)(None)
    run.peers.barrier()
    return answers if first else teacher.load_answers(run.folder, key)
