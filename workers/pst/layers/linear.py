"""What every method's layer is, and the layer of PST. The maths and its legend: :mod:`pst.layers.kernels.reference`.

    PSTLinear    y = x (M * (W + beta U V))^T + bias     W frozen, six small tensors trained

With an activation power p, magnitudes weigh as much as what they multiply (Sun et al. 2023, Wanda, arXiv 2306.11695,
has p = 1 and no trained scores), which the published S does not know:

    S = |D| diag(a) + alpha1 A B + alpha2 (R 1^T + 1 C^T)      a_j = rms(x_j)^p over the calibration rows' tokens,
                                                               relative to its mean, as the nearest power of two

The layer then holds W diag(a), and applies M * D divided by a. Powers of two round nothing, so that no kernel need
know of a, the layer starts as the pretrained one bit for bit, and merging gives exactly the weights that were masked.

The layers of the other methods are in :mod:`pst.layers.methods`. All hold a :class:`pst.sparsity.masks.Selection` that
the trainer renews once for each optimiser step.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pst.layers import kernels
from pst.layers.kernels.int8 import Int8Weight, quantize_rows
from pst.layers.kernels.reference import Factors, Scales, compute_dtype
from pst.sparsity.masks import Pattern, Selection, everything, select
from pst.sparsity.patterns import Scored

MAX_INPUT_SCALE = 16.0  # an input that is never active keeps a finite place


class _Saved(torch.autograd.Function):
    """x itself; saves what backward needs, W and small tensors included.

    It stands before the product, so that a checkpointed block whose last layer this is can stop its second forward pass
    here, without that layer's product: torch stops where the last saved tensor is saved.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, saved: list[Any], *tensors: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, *tensors)
        ctx.set_materialize_grads(False)
        saved.append(ctx)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None, *(None for _ in ctx.needs_input_grad[2:])


class _MaskedProduct(torch.autograd.Function):
    """x (M * D)^T + bias, given M * D, which is not saved: D is recomputed in backward; and so are S and M by Triton's
    kernels, where the reference saves M, a byte a weight."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        masked: Tensor,
        bias: Tensor | None,
        layer: PSTLinear,
        chosen: Selection,
        saved: list[Any],
        x_needs_grad: bool,
        *factors: Tensor,
    ) -> Tensor:
        ctx.layer, ctx.chosen, ctx.saved, ctx.x_needs_grad = layer, chosen, saved, x_needs_grad
        return F.linear(x, layer.unscaled(masked).to(x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, weight, threshold, mask, *factors = ctx.saved[0].saved_tensors
        flat_dy = dy.reshape(-1, dy.shape[-1])
        grad = ctx.layer.unscaled(flat_dy.T @ x.reshape(-1, x.shape[-1]))
        chosen = replace(ctx.chosen, threshold=threshold, mask=ctx.chosen.mask if mask is None else mask)
        result, masked = kernels.gradients(grad, ctx.layer.held(weight), Factors(*factors), ctx.layer.scales, chosen)
        dx = (flat_dy @ ctx.layer.unscaled(masked).to(dy.dtype)).view(x.shape) if ctx.x_needs_grad else None
        dbias = flat_dy.sum(0) if ctx.needs_input_grad[2] else None
        return dx, None, dbias, None, None, None, None, *result


class PrunableLinear(Scored, nn.Module):
    """What training, evaluation and merging need of a layer.

    ``weight`` is (n, k) whatever the model stores. Which weights stay is said before a step, by :meth:`select`,
    :meth:`select_later` or :meth:`keep`: nothing is searched when ``selection`` is read. ``frozen`` holds M * D while
    many forward passes run with the same weights, else None. With ``device_select`` :meth:`select` also takes a count
    (0-dim, int64) on the device, without waiting for it.
    """

    device_select = False
    calibrates = False
    """Whether :func:`pst.layers.inject.calibrate` must show this layer's inputs to :meth:`calibrated` before the first
    step."""
    differs_at_the_end = False
    """Whether the layer computes otherwise once ``final`` is true."""
    from_selection: tuple[str, ...] = ()
    """Names of tensors that :meth:`keep` derives from the scores as they stand then."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    selection: Selection
    frozen: Tensor | None = None
    evaluating = False
    """Whether forward passes need no gradients: then M * D is made anew in each where ``frozen`` does not hold it."""
    final = False
    """Whether sparsity has reached its target for good."""

    def keep(self, chosen: Selection) -> None:
        """Let exactly these weights stay."""
        self.selection = chosen

    def select(self, kept: int) -> None:
        """Search now: exactly ``kept`` (1..n k) of the scores as they stand."""
        self.keep(select(self.scores(), kept))

    def select_later(self, kept: int) -> None:
        """As :meth:`select`; a layer may leave the search to its next forward pass, before which no score changes."""
        self.select(kept)

    def masked(self) -> Tensor:
        """The weight (n, k) that the layer applies, in the dtype of ``weight``; a pruned weight is +0.0."""
        raise NotImplementedError

    def masked_bytes(self) -> int:
        """Size of what :meth:`masked` gives."""
        return self.weight.numel() * self.weight.element_size()

    def plain(self) -> Tensor:
        """The weight (n, k) without mask and update, as x meets it."""
        return self.unscaled(self.weight.detach())

    def unscaled(self, weight: Tensor) -> Tensor:
        """A weight (n, k) as x meets it, from one as the layer holds it; differentiable."""
        return weight

    def calibrated(self, squares: Tensor) -> None:
        """Told the sums of squares (k) of all inputs seen."""

    def release(self, weight: Tensor) -> None:
        """Let go of all that the layer holds. It keeps ``weight``, for its shape alone."""
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        for name, tensor in [*self.named_parameters(recurse=False), *self.named_buffers(recurse=False)]:
            if name not in ("weight", "bias"):
                tensor.data = tensor.data.new_empty(0)
                tensor.grad = None

    def product(self, x: Tensor) -> Tensor:
        """y (..., n) from x (..., k), with gradients."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.frozen is None and not self.evaluating:
            return self.product(x)
        return F.linear(x, self.masked() if self.frozen is None else self.frozen, self.bias)


class PSTLinear(PrunableLinear):
    """A linear layer with frozen ``weight`` (n, k) and trained U, V, A, B, R, C. ``due`` is the number of weights that
    the next forward pass chooses, None where ``selection`` says which stay.

    ``init_scale`` is the standard deviation of U and A at the start; V, B, R and C start at zero, so that the layer
    begins as the pretrained one. The published unit variance makes the first steps of V and B a hundred times larger
    than these.

    ``weight`` (n, k) and ``bias`` (n) are the pretrained ones, of any floating dtype; U (n, r1), V (r1, k), A (n, r2),
    B (r2, k), R (n) and C (k) are float32 (float64 where W is). ``generator`` draws U and A on the CPU. Li et al. 2022,
    arXiv 2205.11005.

    >>> draw = torch.Generator().manual_seed(0)
    >>> layer = PSTLinear(
    ...     torch.tensor([[3.0, -1.0], [0.5, 2.0]]),
    ...     None,
    ...     update_rank=1,
    ...     score_rank=1,
    ...     scales=Scales(1.0, 1.0, 1.0),
    ...     init_scale=0.02,
    ...     generator=draw,
    ... )
    >>> layer.select(kept=2)
    >>> layer.masked()
    tensor([[3., 0.],
            [0., 2.]])
    >>> layer(torch.ones(1, 2)).tolist()
    [[3.0, 2.0]]
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        update_rank: int,
        score_rank: int,
        scales: Scales,
        init_scale: float,
        generator: torch.Generator,
        activation_power: float = 0.0,
    ) -> None:
        super().__init__()
        n, k = weight.shape
        self.due: int | None = None
        self.activation_power, self.calibrates = activation_power, activation_power > 0
        self.input_scale: Tensor | None = None  # a (k)
        update_rank, score_rank = min(update_rank, n, k), min(score_rank, n, k)
        dtype = compute_dtype(weight)
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

        def gaussian(rank: int) -> nn.Parameter:
            # Drawn on the CPU: the same seed then gives the same start on every device.
            drawn = torch.randn(n, rank, generator=generator, dtype=dtype) * init_scale
            return nn.Parameter(drawn.to(weight.device))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(*shape, dtype=dtype, device=weight.device))

        self.update_u, self.update_v = gaussian(update_rank), zeros(update_rank, k)
        self.score_a, self.score_b = gaussian(score_rank), zeros(score_rank, k)
        self.score_r, self.score_c = zeros(n), zeros(k)
        self.scales = scales
        self.row_scales: Tensor | None = None
        self.held_dtype = weight.dtype
        self.keep(everything(self.update_u, weight.numel()))

    @torch.no_grad()
    def calibrated(self, squares: Tensor) -> None:
        """Take a from what was seen. A weight held in 8 bits is rounded to them once more, each column then as finely
        as its inputs are active."""
        if self.input_scale is not None:
            self._scale_columns(1 / self.input_scale)
        size = squares.sqrt().pow(self.activation_power)
        relative = (size / size.mean()).clamp(1 / MAX_INPUT_SCALE, MAX_INPUT_SCALE)
        self.input_scale = torch.exp2(relative.log2().round())
        self._scale_columns(self.input_scale)

    def _scale_columns(self, scale: Tensor) -> None:
        held = self.held(self.weight.detach())
        if isinstance(held, Int8Weight):
            self._hold(quantize_rows(held.dequantized() * scale))
        else:
            self.weight = nn.Parameter(held * scale.to(held.dtype), requires_grad=False)

    def factors(self) -> Factors:
        return Factors(self.update_u, self.update_v, self.score_a, self.score_b, self.score_r, self.score_c)

    def hold_in_8_bits(self) -> None:
        """Round the frozen weight to 8 bits with a scale for each row; M * D stays in the dtype that W had."""
        self._hold(quantize_rows(self.weight))

    def _hold(self, packed: Int8Weight) -> None:
        self.weight = nn.Parameter(packed.values, requires_grad=False)
        self.row_scales = packed.row_scales

    def plain(self) -> Tensor:
        held = self.held(self.weight.detach())
        return self.unscaled(held.dequantized() if isinstance(held, Int8Weight) else held)

    def masked_bytes(self) -> int:
        return self.weight.numel() * self.held_dtype.itemsize

    def release(self, weight: Tensor) -> None:
        self.row_scales = None
        super().release(weight)

    def held(self, weight: Tensor) -> Tensor | Int8Weight:
        """The frozen weight as the kernels take it, from the tensor ``weight``."""
        return weight if self.row_scales is None else Int8Weight(weight, self.row_scales, self.held_dtype)

    def keep(self, chosen: Selection) -> None:
        self.selection, self.due = chosen, None

    @torch.no_grad()
    def select(self, kept: int) -> None:
        self.keep(kernels.select(self.held(self.weight), self.factors(), self.scales, kept))

    def select_later(self, kept: int) -> None:
        """The next forward pass finds the selection and writes M * D in one reading of W."""
        self.due = kept

    @torch.no_grad()
    def scores(self) -> Tensor:
        return kernels.scores(self.held(self.weight), self.factors(), self.scales)

    @property
    def makes_patterns(self) -> bool:  # type: ignore[override]
        return kernels.backend_of(self.held(self.weight)) == "triton"

    @torch.no_grad()
    def unit_values(self, pattern: Pattern) -> Tensor:
        return kernels.unit_values(self.held(self.weight), self.factors(), self.scales, pattern)

    @torch.no_grad()
    def line_sums(self, axis: int) -> Tensor:
        return kernels.line_sums(self.held(self.weight), self.factors(), self.scales, axis)

    def masked(self) -> Tensor:
        return self.unscaled(self._applied()[0])

    def unscaled(self, weight: Tensor) -> Tensor:
        return weight if self.input_scale is None else weight / self.input_scale.to(weight.dtype)

    @torch.no_grad()
    def _applied(self) -> tuple[Tensor, Tensor | None]:
        """M * D, and M as :func:`pst.layers.kernels.applied` gives it."""
        chosen = self.selection if self.due is None else self.due
        found, masked, mask = kernels.applied(self.held(self.weight), self.factors(), self.scales, chosen)
        self.keep(found)
        return masked, mask

    def product(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        masked = mask = None
        if self.due is not None or kernels.backend_of(self.held(self.weight)) == "reference":
            masked, mask = self._applied()
        chosen, factors, saved, x_needs_grad = self.selection, self.factors(), list[Any](), x.requires_grad
        x = _Saved.apply(x, saved, self.weight, chosen.threshold, mask, *factors)  # type: ignore[no-untyped-call]
        if masked is None:
            masked, _ = self._applied()
        y: Tensor = _MaskedProduct.apply(  # type: ignore[no-untyped-call]
            x, masked, self.bias, self, chosen, saved, x_needs_grad, *factors
        )
        return y
