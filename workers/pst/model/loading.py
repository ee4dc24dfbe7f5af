"""Base models: loading a folder's model for a task, its config and its tokenizer. Safetensors only, no foreign code."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as output

from pst.config import FrozenWeights
from pst.errors import FormatError, PSTError
from pst.files.formats import DENSE_FILE, SPARSE_FOLDER, Compact
from pst.files.shards import Files, Tensors, has_files
from pst.messages import Message
from pst.plan.families import ModelDescription, TensorSpec, architecture
from pst.plan.foreign import check_folder

CPU = torch.device("cpu")
READERS = 4  # tensors that are read, expanded and checked at once
PROBLEMS = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multilabel": "multi_label_classification",
}
"""transformers' names of the tasks with a classification head."""


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` of a base model. Raises :class:`PSTError` when the folder holds no model."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PSTError(
            Message(
                "There is no base model in {folder}: its config.json can't be read ({error}).",
                folder=folder,
                error=error,
            )
        ) from error
    if not isinstance(config, dict):
        raise PSTError(Message("{name} must hold a JSON object.", name=folder / "config.json"))
    check_folder(folder)
    return config


@dataclass(frozen=True)
class TensorLocation:
    """Where a model's weights go: to which device, and in which format those that may be frozen (None: all as the
    source has them); and ``source``, where they come from if not from the model's folder."""

    device: torch.device = CPU
    weights: FrozenWeights | None = "float32"
    source: Tensors | None = None

    def __post_init__(self) -> None:
        if self.device.type == "cuda" and self.device.index is None:
            # Which card "cuda" means is each thread's own affair, and several threads read: this thread's is meant.
            object.__setattr__(self, "device", torch.device("cuda", torch.cuda.current_device()))


def load_model(folder: Path, task: str, labels: Sequence[str], seed: int) -> PreTrainedModel:
    """The base model for ``task``, in float32 on the CPU and in eval mode: with a new head of ``labels`` drawn from
    ``seed``, or for "generation" (no labels) with its LM head. Raises as :func:`open_model`."""
    return open_model(folder, task, labels, seed).finish()


def open_model(
    folder: Path, task: str, labels: Sequence[str], seed: int, location: TensorLocation | None = None
) -> LazyModel:
    """The base model before its weights are read.

    Raises :class:`PSTError` when its family is unknown or has no class for the task (before any file of weights is
    touched), when the weights are missing or not in safetensors, or do not fit config.json.
    """
    description = ModelDescription(read_config(folder), task, len(labels))
    architecture(description.config, task)
    torch.manual_seed(seed)
    location = location or TensorLocation()
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
            if task != "generation":
                config.id2label = dict(enumerate(labels))
                config.label2id = {label: index for index, label in enumerate(labels)}
                config.problem_type = PROBLEMS[task]
            if config.pad_token_id is None:
                config.pad_token_id = load_tokenizer(folder).pad_token_id
            model = skeleton(model_class(task, config.is_encoder_decoder).from_config, config)
            if model.can_generate() and (folder / "generation_config.json").is_file():
                model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        opened = LazyModel(model, location.source or weights_in(folder), description, location)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PSTError(Message("The base model can't be loaded: {error}", error=error)) from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError) as error:  # the library's own
        raise PSTError(
            Message(
                "The base model can't be loaded ({kind}): config.json or generation_config.json holds a value that its "
                "family does not take; save the model anew with transformers and upload it again.",
                kind=type(error).__name__,
            )
        ) from error
    if task == "generation":
        # T5's class says that its LM head is tied even where the checkpoint holds one of its own (T5 1.1, mT5).
        head: Any = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        embedding: Any = model.get_input_embeddings()
        model.config.tie_word_embeddings = head is not None and head.weight is embedding.weight
    return opened


def skeleton(make: Callable[..., PreTrainedModel], config: PretrainedConfig) -> PreTrainedModel:
    """What ``make`` makes of a config, in eval mode: its parameters have shapes but no memory, its buffers are real."""

    def empty(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        return None if parameter.is_meta else nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    hook = register_module_parameter_registration_hook(empty)  # type: ignore[arg-type]  # its annotation forgets the result
    try:
        model = make(config, dtype=torch.float32)
    finally:
        hook.remove()
    model.eval()  # type: ignore[no-untyped-call]
    return model


def weights_in(folder: Path) -> Tensors:
    """The weights of a model's folder: its safetensors files, or where it has none the compact model of an export.

    Raises :class:`FormatError`.
    """
    compact = folder / SPARSE_FOLDER
    if has_files(folder / DENSE_FILE) or not compact.is_dir():
        return Files(folder / DENSE_FILE)
    return Compact(compact)


class LazyModel:
    """A model of which each weight is read when it is needed, straight to its device and in its final format: neither
    the host nor the device holds a second copy of more than one."""

    def __init__(
        self, model: PreTrainedModel, source: Tensors, description: ModelDescription, location: TensorLocation
    ) -> None:
        """``description`` is of the model's config.json. What belongs to no pruned matrix and no embedding table
        may be missing in the source, and is drawn anew; so is a head of another shape. Raises :class:`FormatError`."""
        self.model, self.source, self.location = model, source, location
        specs = description.tensors
        for name, other in description.tied.items():
            path, _, key = name.rpartition(".")
            setattr(model.get_submodule(path), key, model.get_parameter(other))
        self._keys = _keys(model, source)
        self._wide = {spec.name for spec in specs if spec.head or len(spec.shape) == 1}
        self._owners: dict[nn.Parameter, list[tuple[nn.Module, str]]] = defaultdict(list)
        for module in model.modules():
            for key, parameter in module.named_parameters(recurse=False):
                self._owners[parameter].append((module, key))
        self._names: dict[nn.Parameter, str] = {}
        for name, parameter in [*model.named_parameters(remove_duplicate=False)]:
            self._name(name, parameter)
        needed = {spec.name for spec in specs if spec.group is not None or spec.embedding}
        heads = {spec.name for spec in specs if spec.head}
        drawn = []
        for parameter, name in self._names.items():
            found = source.shape(self._keys[name]) if name in self._keys else None
            if found == parameter.shape:
                continue
            if found is None and name in needed:
                raise FormatError(Message("the tensor {name} is missing.", name=name))
            if found is not None and name not in heads:
                raise FormatError(
                    Message(
                        "the tensor {name} has the shape {found}, not {shape}.",
                        name=name,
                        found=list(found),
                        shape=list(parameter.shape),
                    )
                )
            drawn.append(parameter)
        self._draw(drawn)

    def weight(self, name: str) -> Tensor:
        """A tensor of the model, as the source has it, on its device."""
        return self.source.tensor(self._keys[name], self.location.device)

    def origin(self, folder: Path) -> Callable[[str], Tensor | None]:
        """The float32 tensor on the CPU that the model's folder has for each name of the model; None where it has none.
        It holds on to no weights. The files are opened anew: what was read before are the model's own tensors, mapped,
        which training changes."""
        source, keys = weights_in(folder), self._keys

        def read(name: str) -> Tensor | None:
            return source.tensor(keys[name], CPU).to(torch.float32) if name in keys else None

        return read

    def fill(self, path: str) -> None:
        """Read what the submodule ``path`` still lacks ("": the whole model)."""
        lacking = [parameter for parameter in self.model.get_submodule(path).parameters() if parameter.is_meta]
        with ThreadPoolExecutor(READERS) as pool:
            tensors = pool.map(self._read, [self._names[parameter] for parameter in lacking])
            for parameter, tensor in zip(lacking, tensors, strict=True):
                self._put(parameter, tensor)

    def finish(self) -> PreTrainedModel:
        """Read all that is still missing. Raises :class:`PSTError` for damaged weights."""
        try:
            self.fill("")
            for name, buffer in self.model.named_buffers():
                if name in self._keys:
                    buffer.copy_(self.source.tensor(self._keys[name], CPU))
        except (OSError, RuntimeError, SafetensorError, FormatError) as error:
            raise PSTError(Message("The weights of the base model can't be read: {error}", error=error)) from error
        self.model.to(self.location.device)  # type: ignore[arg-type]
        return self.model

    def _name(self, name: str, parameter: nn.Parameter) -> None:
        """Choose the name under which a parameter is read: of a tied one's names the first that the source has. One
        that the source holds with other values under another name is not tied there, and is its own from now on."""
        known = self._names.get(parameter)
        if known is None or known not in self._keys:
            if known is None or name in self._keys:
                self._names[parameter] = name
            return
        if name not in self._keys:
            return
        one, other = (self.source.tensor(self._keys[each], CPU) for each in (known, name))
        if torch.equal(one, other):
            return
        path, _, key = name.rpartition(".")
        module = self.model.get_submodule(path)
        own = nn.Parameter(torch.empty_like(parameter), parameter.requires_grad)
        setattr(module, key, own)
        self._owners[parameter].remove((module, key))
        self._owners[own], self._names[own] = [(module, key)], name
        self.model.all_tied_weights_keys.pop(name, None)

    def _read(self, name: str) -> Tensor:
        """On its device; where weights are frozen in fewer bits, what is trained, or but a vector, is in float32."""
        tensor = self.weight(name)
        if self.location.weights is None:
            return tensor
        wide = self.location.weights == "float32" or name in self._wide
        return tensor.to(torch.float32 if wide else torch.bfloat16)

    def _put(self, parameter: nn.Parameter, tensor: Tensor) -> nn.Parameter:
        """Real values in the place of a parameter, wherever it stands."""
        new = nn.Parameter(tensor, parameter.requires_grad)
        for module, key in self._owners[parameter]:
            setattr(module, key, new)
        return new

    def _draw(self, parameters: Sequence[nn.Parameter]) -> None:
        """Initialise parameters as transformers does; all others have no memory that this could touch."""
        for parameter in parameters:
            self._put(parameter, torch.empty(parameter.shape))
        if parameters:
            for module in self.model.modules():
                module._is_hf_initialized = False  # type: ignore[assignment]
            self.model.initialize_weights()  # type: ignore[no-untyped-call]


def _keys(model: PreTrainedModel, source: Tensors) -> dict[str, str]:
    """The source's name of each tensor of the model that it has. A checkpoint of the bare model lacks the prefix of its
    place in this one, and one of another task's class has it; old ones name a LayerNorm's tensors gamma and beta."""
    names, prefix = set(model.state_dict()), f"{model.base_model_prefix}."
    found: dict[str, str] = {}
    for key in source:
        name = key.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        for candidate in (name, prefix + name, name.removeprefix(prefix)):
            if candidate in names:
                found.setdefault(candidate, key)
                break
    return found


def model_class(task: str, two_stacks: bool) -> Any:
    """transformers' automatic class for a task."""
    if task != "generation":
        return AutoModelForSequenceClassification
    return AutoModelForSeq2SeqLM if two_stacks else AutoModelForCausalLM


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar, and no report that the task head is new: it always is."""
    level, bar = output.get_verbosity(), output.is_progress_bar_enabled()
    output.set_verbosity(logging.ERROR)
    output.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        output.set_verbosity(level)
        if bar:
            output.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_tokenizer(folder: Path) -> Any:
    """The base model's tokenizer; one without a padding token (GPT-2, LLaMA) pads with its end of the text.

    Raises :class:`PSTError` when it can't be read, has neither, or has more tokens than the model has embeddings.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever its file holds, the libraries raise: KeyError, their own Exception
        raise PSTError(
            Message(
                "The base model's tokenizer can't be loaded ({kind}): tokenizer.json, tokenizer_config.json or its "
                "vocabulary holds what the library does not read; save the tokenizer anew and upload the model again.",
                kind=type(error).__name__,
            )
        ) from error
    rows, tokens = read_config(folder).get("vocab_size"), max(tokenizer.get_vocab().values(), default=-1) + 1
    if isinstance(rows, int) and tokens > rows:
        raise PSTError(
            Message(
                "The tokenizer has {tokens:,} tokens, but the model has {rows:,} embeddings; take the tokenizer that "
                "belongs to the model, or enlarge the model's table.",
                tokens=tokens,
                rows=rows,
            )
        )
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token is None:
            raise PSTError(Message("The base model's tokenizer has neither a padding token nor an end of the text."))
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def described(model: PreTrainedModel, task: str) -> ModelDescription:
    """The description that the model's own config gives."""
    return ModelDescription(model.config.to_dict(), task, model.config.num_labels or 0)


def state_of(model: nn.Module, description: ModelDescription) -> dict[str, Tensor]:
    """The state dict with each tensor once: without the names that only repeat a tied one."""
    return {name: tensor for name, tensor in model.state_dict().items() if name not in description.tied}


@torch.no_grad()
def load_state(model: nn.Module, state: Mapping[str, Tensor], description: ModelDescription) -> None:
    """Put the tensors of :func:`state_of` into ``model``, one after the other. Raises RuntimeError when one is missing,
    is not known or does not fit."""
    targets, repeated = model.state_dict(), description.tied
    if missing := sorted(targets.keys() - state.keys() - repeated.keys()):
        raise RuntimeError(f"Missing key {missing[0]} in the state")
    if unknown := sorted(state.keys() - targets.keys()):
        raise RuntimeError(f"Unexpected key {unknown[0]} in the state")
    for name, target in targets.items():
        tensor = state[repeated.get(name, name)]
        if tensor.shape != target.shape:
            raise RuntimeError(f"The state's {name} has the shape {list(tensor.shape)}, not {list(target.shape)}")
        target.copy_(tensor)


def matched_specs(model: nn.Module, description: ModelDescription) -> list[TensorSpec]:
    """The family table's tensors, checked against the model. Raises :class:`PSTError` when they differ."""
    specs = description.tensors
    expected = {spec.name: spec.shape for spec in specs}
    actual = {name: tuple(tensor.shape) for name, tensor in state_of(model, description).items()}
    odd = sorted(name for name in expected.keys() | actual.keys() if expected.get(name) != actual.get(name))
    named = dict(model.named_parameters(remove_duplicate=False))
    odd += [name for name, source in description.tied.items() if named[name] is not named[source]]
    if odd:
        raise PSTError(
            Message(
                "The base model's tensors are not those of its model type; the first that differs is {odd}.", odd=odd[0]
            )
        )
    return specs
