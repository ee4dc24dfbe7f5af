"""A text from a text: by a decoder (causal), or by an encoder and a decoder. Rows are (source, target) with any number
of further references.

A causal model reads ``source``, a line break, and goes on with the target and its end of text; only the target's tokens
are learned. Loss with a teacher (Hinton et al. 2015, arXiv 1503.02531), a mean over the target's tokens:

    L = (1 - w) CE(z, y) + w tau^2 KL(softmax(t / tau) || softmax(z / tau))

Legend: n rows, t tokens of a padded row, v vocabulary; z student's, t teacher's logits (n, t, v); y gold tokens (n, t).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel

from pst.config import TaskName, TrainSettings
from pst.errors import FormatError, PSTError
from pst.messages import Message
from pst.model import memory
from pst.model.data import IGNORED, Encoded, Row, length_sorted_batches, read_objects, text_of
from pst.model.loading import LazyModel, TensorLocation, open_model
from pst.plan.families import ModelDescription
from pst.tasks.scores import Measure, Measured

SEPARATOR = "\n"
SHOWN = 80  # characters of a text that a message names
BATCH = 32
MAX_BATCH = 512
LOGITS, CACHE = 0.125, 0.5  # shares of a GPU's free memory; while it trains, some of that is a CUDA graph's
TOLERANCE = 1e-3  # relative, on the loss of a text in float32
MIN_EQUAL_SHARE = 0.9  # share of texts; two tokens of one probability may turn out either way on another device


class Generation(Measured):
    name: TaskName = "generation"
    primary = "bleu"
    metric = "negative_loss"

    def __init__(self, tokenizer: Any, max_length: int, settings: TrainSettings, config: Mapping[str, Any]) -> None:
        self.tokenizer, self.settings = tokenizer, settings
        self.labels: Sequence[str] = ()
        self.pad_id = int(tokenizer.pad_token_id)
        if tokenizer.eos_token_id is None:
            raise PSTError(
                Message("The base model's tokenizer has no end of text, without which nothing can be generated.")
            )
        self.end_id = int(tokenizer.eos_token_id)
        described = ModelDescription(config, self.name)
        self.two_stacks = described.two_stacks
        # mBART's tokenizer writes a text's language behind its end, and there the decoder starts with it.
        marks = tokenizer(text_target="")["input_ids"] if self.two_stacks else []
        self.behind = marks[::-1].index(self.end_id) if self.end_id in marks else 0
        start = marks[-1] if self.behind else config.get("decoder_start_token_id")
        self.start_id = self.pad_id if start is None else int(start)
        self.separator = tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
        self.context = described.max_tokens
        room = described.source_room(settings.max_target_length, len(self.separator))
        if room < 2:
            raise PSTError(
                Message(
                    "settings: max_target_length {max_target_length} does not fit the model's "
                    "context of {context} tokens, which also holds the source; lower it.",
                    max_target_length=settings.max_target_length,
                    context=self.context,
                )
            )
        self.max_length = min(max_length, room)
        self.train: Sequence[Encoded] = ()
        self.validation: Sequence[Encoded] = ()

    def read(self, path: Path) -> list[Row]:
        rows = []
        for place, value in read_objects(path):
            references = value.get("references") or []
            if not isinstance(references, list) or not all(isinstance(text, str) for text in references):
                raise PSTError(Message('{place}: "references" must be a list of strings.', place=place))
            target = value.get("target", references[0] if references else None)
            first = text_of(place, {"target": target}, "target")
            if not first.strip():
                raise PSTError(Message("{place}: the target is empty.", place=place))
            source = text_of(place, value, "source")
            rows.append(Row(source, None, references=tuple(dict.fromkeys([first, *references])), place=place))
        return rows

    def classes_of(self, row: Row) -> Collection[int]:
        return ()

    def held_out(self, rows: Sequence[Row]) -> list[Row]:
        """One row for each source, with the references of all its rows."""
        first: dict[str, Row] = {}
        for row in rows:
            known = first.get(row.text, row)
            first[row.text] = replace(known, references=tuple(dict.fromkeys(known.references + row.references)))
        return list(first.values())

    def check(self, train: Sequence[Row], validation: Sequence[Row]) -> list[str]:
        return []

    def encode(self, rows: Sequence[Row]) -> list[Encoded]:
        """Tokenise; a source longer than ``max_length`` is cut. Raises :class:`PSTError` naming file, line and tokens
        where a target is longer than ``max_target_length`` or the context."""
        sources = self._sources([row.text for row in rows])
        targets = self._targets([row.references[0] if row.references else "" for row in rows])
        for row, target in zip(rows, targets, strict=True):
            tokens, limit = len(target), self.settings.max_target_length
            if tokens > limit:
                text = shorten(row.references[0], SHOWN, placeholder=" …")
                place = (
                    Message("{place}: the target “{text}”", place=row.place, text=text)
                    if row.place
                    else Message("The target “{text}”", text=text)
                )
                room = self.context if self.two_stacks else self.context - len(self.separator) - 1
                where = (
                    Message("the model's context of {context}", context=self.context)
                    if tokens > room
                    else Message("max_target_length, {limit}", limit=limit)
                )
                what = (
                    Message("shorten or remove it.") if tokens > room else Message("raise that, or shorten the text.")
                )
                raise PSTError(
                    Message(
                        "{target} has {tokens} tokens, more than {where}; {what}",
                        target=place,
                        tokens=tokens,
                        where=where,
                        what=what,
                    )
                )
        return [Encoded(ids, None, target=tuple(target)) for ids, target in zip(sources, targets, strict=True)]

    def _sources(self, sources: list[str]) -> list[list[int]]:
        """Tokens of each, one at least: of an empty text a tokenizer may leave none, and a model reads none."""
        if self.two_stacks:
            found = self.tokenizer(sources, truncation=True, max_length=self.max_length, return_attention_mask=False)
            return [ids or [self.end_id] for ids in found["input_ids"]]
        result = []
        for ids in self.tokenizer(sources, return_attention_mask=False)["input_ids"]:
            ends = len(ids) > 1 and ids[-1] == self.end_id
            prompt = ids[: len(ids) - ends][: self.max_length] + self.separator
            result.append(prompt or [self.end_id])
        return result

    def _targets(self, targets: list[str]) -> list[list[int]]:
        if self.two_stacks:
            found = self.tokenizer(text_target=targets, return_attention_mask=False)["input_ids"]
            found = [ids[: len(ids) - self.behind] for ids in found]
        else:
            found = self.tokenizer(targets, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        return [ids if ids and ids[-1] == self.end_id else [*ids, self.end_id] for ids in found]

    def learn(self, train: Sequence[Encoded], validation: Sequence[Encoded]) -> None:
        self.train, self.validation = train, validation

    def open(self, folder: Path, seed: int, location: TensorLocation | None = None) -> LazyModel:
        """The base model, which generates as the settings say, whatever its own folder says."""
        opened = open_model(folder, "generation", [], seed, location)
        opened.model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self.settings.max_target_length,
            num_beams=self.settings.beams,
            do_sample=False,
            pad_token_id=self.pad_id,
            eos_token_id=self.end_id,
            bos_token_id=self.tokenizer.bos_token_id,
            decoder_start_token_id=self.start_id if self.two_stacks else None,
        )
        return opened

    def length(self, row: Encoded) -> Any:
        source, target = len(row.input_ids), len(row.target)
        return (source, target) if self.two_stacks else source + target

    def collate(
        self, rows: Sequence[Encoded], *, length: Any = None, count: int | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        filled = [*rows, *[rows[0]] * ((count or len(rows)) - len(rows))]
        if self.two_stacks:
            source, target = length or (max(len(r.input_ids) for r in rows), max(len(r.target) for r in rows))
            ids, mask = self._padded([row.input_ids for row in filled], source)
            decoder, _ = self._padded([[self.start_id, *row.target[:-1]] for row in filled], target)
            gold, real = self._padded([row.target for row in filled], target)
            inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder}
        else:
            width = length or max(len(row.input_ids) + len(row.target) for row in rows)
            ids, mask = self._padded([[*row.input_ids, *row.target] for row in filled], width)
            inputs, gold, real = {"input_ids": ids, "attention_mask": mask}, ids.clone(), mask.clone()
            for place, row in enumerate(filled):
                real[place, : len(row.input_ids)] = 0
        real[len(rows) :] = 0
        return inputs, gold.masked_fill(real == 0, IGNORED)

    def _padded(self, rows: Sequence[Sequence[int]], width: int, left: bool = False) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask (n, width)."""
        ids = torch.full((len(rows), width), self.pad_id)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            at = slice(width - len(row), width) if left else slice(0, len(row))
            ids[place, at] = torch.tensor(row)
            mask[place, at] = 1
        return ids, mask

    def norm(self, gold: Tensor) -> Tensor:
        return (gold != IGNORED).sum().float().reshape(1)

    def loss(self, outputs: Any, gold: Tensor, teacher: Tensor | None, norm: Tensor) -> Tensor:
        logits, wanted = self._aligned(outputs.logits, gold)
        hard = F.cross_entropy(logits, wanted, reduction="sum", ignore_index=IGNORED) / norm[0]
        if teacher is None:
            return hard
        tau, share = self.settings.distill_temperature, self.settings.distill_weight
        target = F.log_softmax(self._aligned(teacher, gold)[0] / tau, -1)
        distance = F.kl_div(F.log_softmax(logits / tau, -1), target, reduction="none", log_target=True).sum(-1)
        soft = (distance * (wanted != IGNORED)).sum() / norm[0]
        return (1 - share) * hard + share * tau * tau * soft

    def _aligned(self, logits: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (tokens, v) and the tokens that they foretell: a causal model's are of the next place."""
        if not self.two_stacks:
            logits, gold = logits[:, :-1], gold[:, 1:]
        return logits.float().flatten(0, 1), gold.flatten()

    def score(self, model: PreTrainedModel) -> tuple[float, float]:
        """(minus the mean loss of a target token, 0)."""
        losses, tokens = self._losses(model, self.validation)
        return -float(losses.sum() / tokens.sum()), 0.0

    def predict(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> dict[str, Tensor]:
        """``loss`` (n), summed over the target's ``tokens`` (n), and ``generated`` (n, max_target_length) tokens."""
        losses, tokens = self._losses(model, rows)
        return {"loss": losses, "tokens": tokens, "generated": self.generate(model, rows)}

    @torch.no_grad()
    def _losses(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> tuple[Tensor, Tensor]:
        training, device = model.training, next(model.parameters()).device
        model.train(False)
        losses, tokens = torch.zeros(len(rows)), torch.zeros(len(rows), dtype=torch.long)
        lengths = [len(row.input_ids) + len(row.target) for row in rows]
        vocabulary = int(model.config.vocab_size)
        for batch in length_sorted_batches(lengths, at_once(model, LOGITS, max(lengths, default=1), 4 * vocabulary)):
            inputs, gold = self.collate([rows[index] for index in batch])
            logits = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).logits
            flat, wanted = self._aligned(logits, gold.to(device))
            each = F.cross_entropy(flat, wanted, reduction="none", ignore_index=IGNORED)
            losses[batch] = each.view(len(batch), -1).sum(-1).float().cpu()
            tokens[batch] = (gold != IGNORED).sum(-1)
        model.train(training)
        return losses, tokens

    @torch.no_grad()
    def generate(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> Tensor:
        """Tokens (n, max_target_length) that follow each source, padded after the end of text."""
        training, device = model.training, next(model.parameters()).device
        model.train(False)
        result = torch.full((len(rows), self.settings.max_target_length), self.pad_id)
        lengths = [len(row.input_ids) for row in rows]
        longest = max(lengths, default=0) + self.settings.max_target_length
        kept = self.settings.beams * keys_and_values(model.config)
        for batch in length_sorted_batches(lengths, at_once(model, CACHE, longest, kept)):
            sources = [rows[index].input_ids for index in batch]
            ids, mask = self._padded(sources, max(map(len, sources)), left=not self.two_stacks)
            found = model.generate(  # type: ignore[operator]
                input_ids=ids.to(device), attention_mask=mask.to(device)
            ).cpu()
            found = found[:, 1:] if self.two_stacks else found[:, ids.shape[1] :]
            result[batch, : found.shape[1]] = found
        model.train(training)
        return result

    def answer(self, model: PreTrainedModel, rows: Sequence[Encoded]) -> Sequence[list[float] | str]:
        return self.texts({"generated": self.generate(model, rows)})

    def texts(self, answers: dict[str, Tensor]) -> list[str]:
        """The generated texts."""
        found = self.tokenizer.batch_decode(answers["generated"].tolist(), skip_special_tokens=True)
        return [text.strip() for text in found]

    def measure(self, answers: dict[str, Tensor], rows: Sequence[Any]) -> Measure:
        from pst.tasks.texts import texts  # its packages take seconds to import; verifier and serving node need none

        losses, tokens = answers["loss"].double().numpy(), answers["tokens"].double().numpy()
        return texts(self.texts(answers), [row.references for row in rows], losses, tokens)

    def agreement(self, answers: dict[str, Tensor], others: dict[str, Tensor]) -> float:
        """Share of equal texts."""
        return float((answers["generated"] == others["generated"]).all(-1).double().mean())

    def probabilities(self, answers: dict[str, Tensor]) -> Tensor | None:
        return None

    def difference(self, got: dict[str, Tensor], wanted: dict[str, Tensor], who: str) -> float:
        """The largest difference of a text's mean loss. Raises :class:`FormatError`."""
        if got["loss"].shape != wanted["loss"].shape or not torch.equal(got["tokens"], wanted["tokens"]):
            raise FormatError(Message("{who} reads other tokens than the trainer.", who=who))
        tokens = wanted["tokens"].clamp(min=1)
        one, other = got["loss"] / tokens, wanted["loss"] / tokens
        largest = float((one - other).abs().max())
        if not torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE):
            raise FormatError(
                Message(
                    "{who} differs from the trainer by {difference:.3g} in a text's loss.", who=who, difference=largest
                )
            )
        share = self.agreement(got, wanted)
        if share < MIN_EQUAL_SHARE:
            raise FormatError(
                Message(
                    "{who} generates another text than the trainer for {share:.0%} of the rows.",
                    who=who,
                    share=1 - share,
                )
            )
        return largest


def keys_and_values(config: Any) -> int:
    """Numbers that all layers keep of one token while a text is generated."""
    layers = config.num_hidden_layers + (getattr(config, "num_decoder_layers", None) or 0)
    heads, size = getattr(config, "num_key_value_heads", None), getattr(config, "head_dim", None)
    return int(2 * layers * (heads * size if heads and size else config.hidden_size))


def at_once(model: PreTrainedModel, share: float, tokens: int, numbers: int) -> int:
    """How many rows of ``tokens`` tokens, each with so many float32 ``numbers``, go through the model at once without
    gradients: on a GPU, which a forward pass costs about as long for one as for hundreds, what a ``share`` of its free
    memory holds."""
    device = next(model.parameters()).device
    if device.type == "cpu":
        return BATCH
    fitting = share * memory.free_bytes(device) / (tokens * numbers * torch.float32.itemsize)
    return max(1, min(MAX_BATCH, int(fitting)))
