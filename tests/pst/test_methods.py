"""The layers of every method against their definitions in float64, with autograd, and what they share."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pst.config import Method, TrainSettings
from pst.files.encodings import bits
from pst.layers.inject import LAYERS
from pst.layers.linear import PrunableLinear
from pst.layers.methods import l0
from pst.layers.methods.l0 import L0Linear
from pst.layers.methods.lora import LoRALinear
from pst.layers.methods.wanda import WandaLinear, largest_by_row
from pst.plan.methods import METHODS, trainable_params
from pst.sparsity.masks import explicit, kept_count, mask_of

SETTINGS = TrainSettings(update_rank=4, score_rank=3, init_scale=0.3, beta=0.7, alpha1=1.3, alpha2=0.4)
SHAPES = [(1, 1, 1), (3, 7, 5), (6, 17, 33), (9, 131, 140)]  # tokens, n, k; the last takes the sampled selection
PRUNING = [method for method in LAYERS if METHODS[method].prunes]
MASKING = ["magnitude", "movement", "smp"]


def make(method: Method, n: int, k: int, dtype: torch.dtype = torch.float64, *, seed: int = 3) -> PrunableLinear:
    """A layer in the midst of training: nothing of what is trained is zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=generator, dtype=torch.float64).to(dtype)
    bias = torch.randn(n, generator=generator, dtype=torch.float64).to(dtype)
    layer = LAYERS[method].build(weight, bias, SETTINGS, generator)
    with torch.no_grad():
        for name in LAYERS[method].rates:
            tensor = layer.get_parameter(name)
            tensor.copy_(
                torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * (2 if name == "score" else 0.3)
            )
    if isinstance(layer, WandaLinear):
        layer.calibrated(squares(torch.randn(2, 5, k, generator=generator, dtype=torch.float64).to(dtype)))
    return layer


def squares(inputs: Tensor) -> Tensor:
    return inputs.reshape(-1, inputs.shape[-1]).square().sum(0)


def largest(scores: Tensor, kept: int) -> Tensor:
    """The mask by sorting, ties to the lower index."""
    order = sorted(range(scores.numel()), key=lambda index: (-float(scores.detach().reshape(-1)[index]), index))
    mask = torch.zeros(scores.numel(), dtype=scores.dtype)
    mask[order[:kept]] = 1
    return mask.reshape(scores.shape)


def check(layer: PrunableLinear, x: Tensor, wanted: Callable[..., Tensor], trained: list[Tensor]) -> None:
    """Output and gradients equal those of ``wanted(x, *trained)``."""
    y = layer(x)
    upstream = torch.randn_like(y)
    expected = wanted(x, *trained)
    torch.testing.assert_close(y, expected, rtol=1e-11, atol=1e-11)
    got = torch.autograd.grad(y, [x, *trained], upstream)
    for one, other in zip(got, torch.autograd.grad(expected, [x, *trained], upstream), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_every_method_is_known_everywhere() -> None:
    names = set(get_args(Method))
    assert set(METHODS) == names
    assert set(LAYERS) == names - {"dense"}


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", MASKING)
def test_masked_weights_and_scores(method: Method, shape: tuple[int, int, int], sparsity: float) -> None:
    tokens, n, k = shape
    layer = make(method, n, k)
    kept = kept_count(n * k, sparsity)
    layer.select(kept)
    scored, frozen = method != "magnitude", method == "smp"
    mask = largest(layer.score if scored else layer.weight.abs(), kept)
    assert torch.equal(mask_of(layer.scores(), layer.selection), mask.bool())

    def wanted(x: Tensor, *trained: Tensor) -> Tensor:
        weight = layer.weight if frozen else trained[0]
        straight_through = mask + trained[-1] - trained[-1].detach() if scored else mask
        return x @ (straight_through * weight).T + layer.bias

    trained = ([] if frozen else [layer.weight]) + ([layer.score] if scored else [])
    assert layer.weight.requires_grad == (not frozen)
    check(layer, torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True), wanted, trained)
    assert torch.equal(layer.masked(), layer.weight * mask)


def test_movement_accumulates_minus_weight_times_gradient() -> None:
    layer = LAYERS["movement"].build(torch.randn(6, 5).double(), None, SETTINGS, torch.Generator())
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    total = torch.zeros(6, 5, dtype=torch.float64)
    for kept in (30, 20, 7):
        layer.select(kept)
        x, target = torch.randn(8, 5).double(), torch.randn(8, 6).double()
        product = (layer.weight * mask_of(layer.scores(), layer.selection)).detach().requires_grad_()
        (grad,) = torch.autograd.grad((x @ product.T - target).square().sum(), product)
        total -= 0.1 * layer.weight.detach() * grad
        optimizer.zero_grad()
        (layer(x) - target).square().sum().backward()
        optimizer.step()
        torch.testing.assert_close(layer.scores(), total)


# L0


@pytest.mark.parametrize("log_alpha", [-3.0, 0.0, 2.5])
def test_hard_concrete_gates_have_the_published_distribution(log_alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(400_000, generator=generator, dtype=torch.float64)
    gates = l0.random_gates(torch.full_like(draws, log_alpha), draws)
    alpha = torch.tensor(log_alpha, dtype=torch.float64)
    for point in (0.0, 0.2, 0.5, 0.9):
        at = torch.tensor((point - l0.GAMMA) / (l0.ZETA - l0.GAMMA), dtype=torch.float64)
        cdf = torch.sigmoid((at.log() - (1 - at).log()) * l0.BETA - alpha)
        assert float((gates <= point).double().mean()) == pytest.approx(float(cdf), abs=3e-3)
    assert float((gates > 0).double().mean()) == pytest.approx(float(l0.open_probability(alpha)), abs=3e-3)


def test_expected_l0_and_its_gradient() -> None:
    log_alpha = torch.randn(7, 5, dtype=torch.float64).mul_(3).requires_grad_()
    expected = l0.open_probability(log_alpha).sum()
    (grad,) = torch.autograd.grad(expected, log_alpha)
    # 1 - Q(0) with the distribution function Q of the stretched concrete distribution
    q = 1 / (1 + torch.exp(log_alpha - l0.BETA * torch.log(torch.tensor(-l0.GAMMA / l0.ZETA, dtype=torch.float64))))
    torch.testing.assert_close(expected, (1 - q).sum())
    torch.testing.assert_close(grad, q * (1 - q))


@pytest.mark.parametrize("kept", [1, 40, 900, 7999])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("guess", [0.0, 5.0])
def test_the_shift_binds_the_expected_l0(kept: int, spread: float, guess: float) -> None:
    # Between gates that are far apart many shifts bind it: the shift itself may depend on the guess.
    log_alpha = torch.randn(100, 80, dtype=torch.float64) * spread + 2.5
    shift = float(l0.shift_for(log_alpha, kept, torch.tensor(guess)))
    expected = float(l0.open_probability(log_alpha - shift).sum())
    assert shift >= 0
    assert expected <= kept * 1.0001
    assert shift == 0 or expected == pytest.approx(kept, rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_random_gates_and_their_gradients(shape: tuple[int, int, int]) -> None:
    tokens, n, k = shape
    layer = make("l0", n, k)
    assert isinstance(layer, L0Linear)
    layer.select(kept_count(n * k, 0.6))
    torch.manual_seed(11)
    noise = torch.rand(n, k, dtype=torch.float64)

    def wanted(x: Tensor, weight: Tensor, log_alpha: Tensor) -> Tensor:
        s = torch.sigmoid((torch.log(noise) - torch.log(1 - noise) + log_alpha - layer.shift) / l0.BETA)
        z = torch.clamp(s * (l0.ZETA - l0.GAMMA) + l0.GAMMA, 0, 1)
        return x @ (z * weight).T + layer.bias

    x = torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(11)
    check(layer, x, wanted, [layer.weight, layer.score])


@pytest.mark.parametrize("spread", [1e-4, 0.5, 8.0])
@pytest.mark.parametrize("kept", [1, 60, 595])
def test_the_last_phase_keeps_an_exact_count_of_fixed_gates(kept: int, spread: float) -> None:
    layer = make("l0", 17, 35)
    assert isinstance(layer, L0Linear)
    with torch.no_grad():
        layer.score.mul_(spread).add_(2.5)
    layer.select(kept)
    layer.final = True
    mask = largest(layer.score, kept)

    def wanted(x: Tensor, weight: Tensor, log_alpha: Tensor) -> Tensor:
        z = torch.clamp(torch.sigmoid(log_alpha - layer.final_shift) * (l0.ZETA - l0.GAMMA) + l0.GAMMA, 0, 1)
        return x @ (mask * z * weight).T + layer.bias

    x = torch.randn(4, 35, dtype=torch.float64, requires_grad=True)
    check(layer, x, wanted, [layer.weight, layer.score])
    merged = layer.masked()
    assert int((merged != 0).sum()) == kept
    ratio = (merged / layer.weight.detach())[mask.bool()]
    assert 0.5 - 1e-9 <= float(ratio.min()) <= float(ratio.max()) <= 1 + 1e-9
    layer.final = False
    layer.eval()
    layer.select(torch.tensor(kept))
    assert torch.equal(mask_of(layer.scores(), layer.selection), mask.bool())
    assert torch.equal(layer(x), F.linear(x, merged, layer.bias))  # evaluation draws nothing


def test_checkpointed_random_gates_are_the_same_ones() -> None:
    layer = make("l0", 9, 9)
    layer.select(30)
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)

    def gradients(run: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        torch.manual_seed(5)
        return torch.autograd.grad(run(x).square().sum(), [x, *layer.parameters()])

    plain = gradients(lambda x: layer(layer(x)))
    again = gradients(lambda x: checkpoint(lambda v: layer(layer(v)), x, use_reentrant=False))
    assert all(torch.equal(one, other) for one, other in zip(plain, again, strict=True))


# Low-rank updates


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_wanda_trains_an_update_under_its_mask(shape: tuple[int, int, int], sparsity: float) -> None:
    tokens, n, k = shape
    layer = make("wanda", n, k)
    assert isinstance(layer, WandaLinear)
    seen = torch.randn(3, 4, k, dtype=torch.float64)
    layer.calibrated(squares(seen))
    metric = layer.weight.abs() * seen.reshape(-1, k).norm(dim=0)
    torch.testing.assert_close(layer.scores(), metric)
    kept = kept_count(n * k, sparsity)
    layer.select(kept)
    rows = [kept // n + (row < kept % n) for row in range(n)]
    mask = torch.stack([largest(metric[row], count) for row, count in enumerate(rows)])
    assert torch.equal(mask_of(layer.scores(), layer.selection), mask.bool())

    def wanted(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return x @ (mask * (layer.weight + SETTINGS.beta * u @ v)).T + layer.bias

    x = torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True)
    check(layer, x, wanted, [layer.update_u, layer.update_v])
    with torch.no_grad():
        layer.update_u.mul_(5)
    assert torch.equal(mask_of(layer.scores(), layer.selection), mask.bool())  # the mask does not follow the update


def test_rows_keep_equal_counts_and_the_first_rows_the_rest() -> None:
    mask = largest_by_row(torch.tensor([[1.0, 3, 2, 3], [0, 0, 0, 0], [9, 8, 7, 6]]), 7)
    assert mask.int().tolist() == [[0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


def test_wanda_does_not_prune_blindly() -> None:
    layer = LAYERS["wanda"].build(torch.randn(4, 4), None, SETTINGS, torch.Generator())
    with pytest.raises(RuntimeError, match="calibrate"):
        layer.select(8)


@pytest.mark.parametrize("shape", SHAPES)
def test_lora(shape: tuple[int, int, int]) -> None:
    tokens, n, k = shape
    layer = make("lora", n, k)
    assert isinstance(layer, LoRALinear)

    def wanted(x: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return x @ (layer.weight + SETTINGS.beta * u @ v).T + layer.bias

    x = torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True)
    check(layer, x, wanted, [layer.update_u, layer.update_v])
    torch.testing.assert_close(layer(x), F.linear(x, layer.masked(), layer.bias))
    layer.select(n * k)
    with pytest.raises(ValueError, match="prunes nothing"):
        layer.select(n * k - 1)


# All methods


@pytest.mark.parametrize("method", list(LAYERS))
def test_a_fresh_layer_computes_as_the_pretrained_one(method: Method) -> None:
    weight, bias = torch.randn(12, 10, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    layer = LAYERS[method].build(weight, bias, SETTINGS, torch.Generator().manual_seed(1)).eval()
    x = torch.randn(3, 10, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.linear(x, weight, bias))
    torch.testing.assert_close(layer.masked(), weight)


@pytest.mark.parametrize("method", list(LAYERS))
def test_trained_tensors_are_counted_without_torch(method: Method) -> None:
    for n, k in ((12, 10), (2, 9), (5, 1)):
        layer = make(method, n, k)
        trained = {name: p.numel() for name, p in layer.named_parameters() if name in LAYERS[method].rates}
        if METHODS[method].full:
            trained["weight"] = layer.weight.numel()
        wanted = sum(trained.values())
        assert trainable_params(method, (n, k), SETTINGS) == trainable_params(method, (k, n), SETTINGS) == wanted


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", PRUNING)
def test_pruned_weights_are_plus_zero_and_counted(method: Method, dtype: torch.dtype) -> None:
    layer = make(method, 30, 20, dtype)
    layer.select(77)
    merged, mask = layer.masked(), mask_of(layer.scores(), layer.selection)
    assert merged.dtype == dtype
    assert int(mask.sum()) == 77
    assert not bits(merged)[~mask].any()
    assert merged[mask].all()
    layer.frozen = merged
    x = torch.randn(3, 20, dtype=dtype)
    assert torch.equal(layer(x), F.linear(x, merged, layer.bias))


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("method", PRUNING)
def test_a_matrix_of_which_nothing_stays(method: Method, final: bool) -> None:
    layer = make(method, 6, 5)
    layer.keep(explicit(torch.zeros(6, 5, dtype=torch.bool)))
    layer.final = final
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert torch.equal(y, layer.bias.expand(4, 6))
    trained = [p for p in layer.parameters() if p.requires_grad]
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.sum(), [x, *trained]))
    assert not bits(layer.masked()).any()


@pytest.mark.parametrize("method", list(LAYERS))
def test_autocast(method: Method) -> None:
    layer, exact = make(method, 33, 47, torch.float32), make(method, 33, 47, torch.float32).double()
    for one in (layer, exact):
        one.eval()
        if isinstance(one, WandaLinear):
            assert one.squares is not None
            one.squares = one.squares.double()
        one.select(33 * 47 if method == "lora" else 300)
    x = torch.randn(5, 47, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    names = [name for name, p in layer.named_parameters() if p.requires_grad]
    x64 = x.detach().double().requires_grad_()
    y64 = exact(x64)
    got = torch.autograd.grad(y.float().sum(), [x, *(layer.get_parameter(name) for name in names)])
    wanted = torch.autograd.grad(y64.sum(), [x64, *(exact.get_parameter(name) for name in names)])
    for name, one, other in zip(["y", "x", *names], [y, *got], [y64, *wanted], strict=True):
        assert (one.double() - other).norm() <= 3e-2 * other.norm(), name


@pytest.mark.parametrize("method", ["magnitude", "movement", "smp", "wanda"])
def test_no_mask_and_no_masked_weight_is_saved_for_backward(method: Method) -> None:
    layer = make(method, 48, 80, torch.float32)
    layer.select(400)
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(5, 80, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    own = {parameter.data_ptr() for parameter in layer.parameters()}
    assert all(tensor.numel() < 48 * 80 or tensor.data_ptr() in own for tensor in saved)
    y.sum().backward()


@pytest.mark.parametrize("method", list(LAYERS))
def test_biases_can_be_trained(method: Method) -> None:
    layer = make(method, 6, 5)
    assert layer.bias is not None
    layer.bias.requires_grad_(True)
    (grad,) = torch.autograd.grad(layer(torch.randn(4, 3, 5, dtype=torch.float64)).sum(), [layer.bias])
    assert torch.equal(grad, torch.full((6,), 12.0, dtype=torch.float64))


# The authors' own layer


def authors_layer(n: int, k: int, sparsity: float) -> nn.Module:
    path = os.environ.get("SPARSEWRIGHT_AUTHORS_LAYER")
    if not path:
        pytest.skip("SPARSEWRIGHT_AUTHORS_LAYER does not name the authors' sparse.py, which this project does not hold")
    spec = importlib.util.spec_from_file_location("authors_sparse", Path(path))
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    s = SETTINGS
    layer: nn.Module = module.SparseLinear(
        k,
        n,
        weight_rank=s.update_rank,
        weight_beta=s.beta,
        mask_rank=s.score_rank,
        mask_alpha1=s.alpha1,
        mask_alpha2=s.alpha2,
    ).double()
    layer.cur_sparsity = sparsity  # type: ignore[assignment]
    return layer


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("shape", [(6, 17, 33), (9, 131, 140)])
def test_masks_and_gradients_are_those_of_the_authors_layer(shape: tuple[int, int, int], sparsity: float) -> None:
    tokens, n, k = shape
    ours, theirs = make("pst", n, k), authors_layer(n, k, sparsity)
    names = {
        "update_u": "weight_U",
        "update_v": "weight_V",
        "score_a": "mask_scores_A",
        "score_b": "mask_scores_B",
        "score_r": "mask_scores_R",
        "score_c": "mask_scores_C",
    }
    with torch.no_grad():
        for one, other in {**names, "weight": "weight", "bias": "bias"}.items():
            theirs.get_parameter(other).copy_(ours.get_parameter(one))
    ours.select(kept_count(n * k, sparsity))
    x = torch.randn(2, tokens, k, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, tokens, n, dtype=torch.float64)
    y, reference = ours(x), theirs(x)
    torch.testing.assert_close(y, reference, rtol=1e-9, atol=1e-9)
    got = torch.autograd.grad(y, [x, *map(ours.get_parameter, names)], upstream)
    wanted = torch.autograd.grad(reference, [x, *map(theirs.get_parameter, names.values())], upstream)
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    theirs.convert()
    assert torch.equal(ours.masked() != 0, theirs.get_parameter("weight") != 0)


def test_settings_of_a_method_do_not_change_another() -> None:
    assert trainable_params("wanda", (8, 6), replace(SETTINGS, score_rank=5)) == 4 * 14
    assert trainable_params("pst", (8, 6), replace(SETTINGS, score_rank=5)) == (4 + 5 + 1) * 14
