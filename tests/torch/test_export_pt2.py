"""Every ATen operator that the .pt2 reader maps, exported by PyTorch, gives what PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from exported import Wrapped, assert_same, decomposed, export, larger, read_back, targets
from torch import nn

from sepcore.formats.torch_export.ops import OPERATORS

pytestmark = pytest.mark.torch

Tensor = torch.Tensor
aten = torch.ops.aten


@cache
def noise(*shape: int, seed: int = 0) -> Tensor:
    """The same tensor for the same arguments: made before an export, it is a constant there."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def positive(*shape: int, seed: int = 0) -> Tensor:
    return noise(*shape, seed=seed).abs() + 0.1


X = noise(2, 4, 6, 8)
M = noise(3, 5)
W = noise(8, 4, 3, 3, seed=1)
B = noise(8, seed=2)
MEAN, VAR = noise(4, seed=3), positive(4, seed=4)
SLOPES = noise(4, seed=5)
INDEX = torch.tensor([3, 0, 2])
MASK = noise(2, 4, 6, 8, seed=6) > 0
QUERY, KEY, VALUE = noise(2, 3, 5, 8), noise(2, 3, 7, 8, seed=1), noise(2, 3, 7, 4, seed=2)


class Inplace(nn.Module):
    """In-place operations on tensors that are read again, and on views."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x * 2
        z = y
        y.add_(1)
        relu = F.relu(z, inplace=True)
        part = y[:, 1:3]
        part.mul_(3)
        y[:, 0] = 7.0
        y.transpose(1, 2)[:, 2:4].sub_(1)
        return y, z + 1, relu


class NoGrad(nn.Module):
    """A region that the exporter puts into a graph of its own."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        with torch.no_grad():
            y = x * 2
            z = y + 1
        with torch.autocast("cpu", enabled=False):
            z = z * y
        return {"out": z.relu(), "y": y, "absent": None, "size": x.shape[0], "number": 3}


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layers = nn.ModuleList(
            (
                nn.BatchNorm2d(4, eps=1e-3),
                nn.BatchNorm2d(4, affine=False),
                nn.InstanceNorm2d(4, affine=True),
                nn.GroupNorm(2, 4),
                nn.LayerNorm((6, 8)),
                nn.LayerNorm(8, elementwise_affine=False),
                nn.InstanceNorm2d(4, track_running_stats=True),
                nn.BatchNorm2d(4, track_running_stats=False),
            )
        )
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.is_floating_point():
                tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5

    def forward(self, x: Tensor) -> list[Tensor]:
        return [layer(x) for layer in self.layers]


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "conv2d": (lambda x: F.conv2d(x, W, B, 2, 1), (X,)),
    "conv2d groups, dilation": (lambda x: F.conv2d(x, W[:, :2], None, (1, 2), (2, 0), (2, 1), 2), (X,)),
    "conv2d same": (lambda x: F.conv2d(x, W[..., :2], B, padding="same", dilation=3), (X,)),
    "conv2d valid": (lambda x: F.conv2d(x, W, B, 2, padding="valid"), (X,)),
    "conv1d": (lambda x: F.conv1d(x, W[:, :, 0], B, 2, 1), (noise(2, 4, 9),)),
    "conv1d same": (lambda x: F.conv1d(x, W[:, :, 0, :2], B, padding="same"), (noise(2, 4, 9),)),
    "conv_transpose2d": (lambda x: F.conv_transpose2d(x, W[:4], None, 2, 1, 1), (X,)),
    "conv_transpose2d groups": (lambda x: F.conv_transpose2d(x, W[:4], noise(8), (3, 2), groups=2), (X,)),
    "conv_transpose1d": (lambda x: F.conv_transpose1d(x, W[:4, :, 0], None, 2, 1, 1), (noise(2, 4, 9),)),
    "convolution": (lambda x: aten.convolution(x, W, B, [2], [1], [1], False, [0], 1), (X,)),
    "linear": (lambda x: F.linear(x, noise(7, 8), noise(7)), (X,)),
    "linear without bias": (lambda x: F.linear(x, noise(7, 5)), (M,)),
    "products": (lambda x, y: (x @ y.T, torch.mm(x, y.t()), x @ y[0], aten.numpy_T(x)), (M, noise(4, 5))),
    "addmm": (lambda x: torch.addmm(noise(4), x, noise(5, 4), beta=0.5, alpha=2), (M,)),
    "bmm": (lambda x, y: (torch.bmm(x, y), torch.baddbmm(noise(2, 3, 4), x, y)), (noise(2, 3, 5), noise(2, 5, 4))),
    "einsum": (
        lambda x, y: (
            torch.einsum("bchw, bcHW -> bhwHW", x, x[:, :, :2]),
            torch.einsum("bchw, ck -> bkhw", x, y),
            torch.einsum("...hw, ...hv, hw -> w...v", x, x[..., 2:], noise(6, 8)),
            torch.einsum("bchw -> cb", x),
            torch.einsum("bchw, bchw", x, x),
            torch.einsum("bc, bh -> bch", x[..., 0, 0], x[:, 0, 0]),
        ),
        (X, noise(4, 5)),
    ),
    "one-hot": (lambda x: F.one_hot((2 * x[:, 0]).clamp(-2, 2).round().long() + 2, 7), (X,)),
    "running sums": (lambda x: (torch.cumsum(x, 1), (x > 0).cumsum(-1, dtype=torch.float32)), (X,)),
    "attention": (F.scaled_dot_product_attention, (QUERY, KEY, VALUE)),
    "attention masked": (
        lambda q, k, v: (
            F.scaled_dot_product_attention(q, k, v, attn_mask=noise(5, 7) > -1, scale=0.3),
            F.scaled_dot_product_attention(q, k, v, attn_mask=noise(5, 7)),
        ),
        (QUERY, KEY, VALUE),
    ),
    "attention for cpu": (
        lambda q, k, v: aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0],
        (QUERY, KEY, KEY.flip(0)),
    ),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), (X,)),
    "max_pool2d dilation": (lambda x: F.max_pool2d(x, (2, 3), dilation=2), (X,)),
    "max_pool2d with indices": (lambda x: aten.max_pool2d_with_indices(x, [2, 2])[0], (X,)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), (X,)),
    "avg_pool2d divisor": (lambda x: F.avg_pool2d(x, (2, 3), divisor_override=4), (X,)),
    "avg_pool2d of the whole map": (lambda x: F.avg_pool2d(x, (x.shape[2], x.shape[3])), (X,)),
    "adaptive pools": (lambda x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, (2, None))), (X,)),
    "adaptive pool": (lambda x: (F.adaptive_avg_pool2d(x, (3, 5)), aten._adaptive_avg_pool2d(x, [2, 3])), (X,)),
    "pools of lines": (
        lambda x: (
            *(F.max_pool1d(x, 3, 2, 1), F.max_pool1d(x, 2, dilation=2), F.avg_pool1d(x, 3, 2, 1, True, False)),
            *(F.avg_pool1d(x, 2), F.adaptive_avg_pool1d(x, 3)),
        ),
        (noise(2, 4, 9),),
    ),
    "batch_norm": (lambda x: F.batch_norm(x, MEAN, VAR, SLOPES, None, eps=1e-3), (X,)),
    "native_batch_norm": (
        lambda x: (
            aten.native_batch_norm(x, SLOPES, MEAN, MEAN, VAR, False, 0.1, 1e-3)[0],
            aten._native_batch_norm_legit_no_training(x, SLOPES, MEAN, MEAN, VAR, 0.1, 1e-3)[0],
            aten._native_batch_norm_legit_functional(x, SLOPES, MEAN, MEAN, VAR, False, 0.1, 1e-3)[0],
            aten._native_batch_norm_legit.no_stats(x, SLOPES, MEAN, True, 0.1, 1e-3)[0],
        ),
        (X,),
    ),
    "native_batch_norm legit": (
        lambda x: aten._native_batch_norm_legit(x, SLOPES, None, MEAN, VAR, False, 0.1, 1e-3)[0],
        (X,),
    ),
    "native norms": (
        lambda x: (
            aten.native_layer_norm(x, [8], noise(8), noise(8), 1e-3)[0],
            aten.native_group_norm(x, SLOPES, MEAN, 2, 4, 48, 2, 1e-3)[0],
        ),
        (X,),
    ),
    "root mean square norms": (
        lambda x: (
            *(F.rms_norm(x, [8]), F.rms_norm(x, [6, 8], noise(6, 8), 1e-3)),
            *(aten._fused_rms_norm(x, [8], noise(8), 0.1)[0], aten._fused_rms_norm(x, [6, 8], None, None)[0]),
        ),
        (X,),
    ),
    "elements repeated": (
        lambda x: (x.repeat_interleave(2, 1), x.repeat_interleave(3, -1), x[0, 0].repeat_interleave(2)),
        (X,),
    ),
    "relu": (lambda x: (F.relu(x), F.relu6(4 * x), F.hardtanh(x), F.hardtanh(x, -0.5, 2), aten.relu6(4 * x)), (X,)),
    "leaky_relu": (lambda x: (F.leaky_relu(x), F.leaky_relu(x, 0.3), F.prelu(x, SLOPES)), (X,)),
    "prelu kernel": (lambda x: aten._prelu_kernel(x, SLOPES.reshape(1, 4, 1, 1)), (X,)),
    "elu": (lambda x: (F.elu(x), F.elu(x, 0.3), F.celu(x, 0.5), F.selu(x), aten.elu(x, 0.5, 2.0)), (X,)),
    "smooth activations": (
        lambda x: (F.silu(x), F.gelu(x), F.gelu(x, approximate="tanh"), F.mish(x), F.softplus(x), F.softplus(x, 2)),
        (X,),
    ),
    "sigmoids": (
        lambda x: (F.hardswish(4 * x), F.hardsigmoid(4 * x), torch.sigmoid(x), torch.tanh(x), F.logsigmoid(x)),
        (X,),
    ),
    "log_sigmoid forward": (lambda x: aten.log_sigmoid_forward(x)[0], (X,)),
    "softmax": (lambda x: (F.softmax(x, 1), F.log_softmax(x, -1), F.softmax(x, 1, dtype=torch.float64)), (X,)),
    "softmax of integers": (lambda x: F.softmax(x.long(), 1, dtype=torch.float32), (4 * X,)),
    "glu": (lambda x: F.glu(x, 1), (X,)),
    "threshold by hand": (lambda x: torch.where(x > 0.1, x, x.new_full((), -1.0)), (X,)),
    "truths": (
        lambda x: (x.any(), x.any(1), x.all(), x.all(-1, keepdim=True), torch.any(x, (1, 2)), torch.all(x, (1, 2))),
        (MASK,),
    ),
    "roots and logarithms": (
        lambda x: (
            *(f(x) for f in (torch.exp, torch.log, torch.sqrt, torch.rsqrt, torch.reciprocal, torch.log2, torch.log10)),
            torch.erf(x),
            torch.sin(x),
            torch.cos(x),
            torch.expm1(x),
            torch.log1p(x),
        ),
        (positive(2, 3, 4),),
    ),
    "rounding": (
        lambda x: (torch.floor(x), torch.ceil(x), torch.round(x), torch.trunc(x), -x, x.abs(), torch.sign(x)),
        (4 * X,),
    ),
    "arithmetic": (
        lambda x, y: (x + y, x - y, x * y, x / y, x + 2, x - 2.5, 3 - x, x * 2, x / 3, 2 / x, torch.true_divide(x, y)),
        (X, positive(4, 1, 1)),
    ),
    "alpha": (
        lambda x, y: (torch.add(x, y, alpha=2), torch.sub(x, y, alpha=0.5), torch.rsub(x, y, alpha=3)),
        (X, X.flip(0)),
    ),
    "sums with products": (
        lambda x, y: (torch.addcmul(x, x, y), torch.addcmul(x, x, y, value=0.5), torch.addcdiv(x, x, y, value=2)),
        (X, positive(4, 1, 1)),
    ),
    "scalar overloads": (
        lambda x: (aten.add.Scalar(x, 2), aten.sub.Scalar(x, 2), aten.mul.Scalar(x, 2), aten.div.Scalar(x, 2)),
        (X,),
    ),
    "division": (
        lambda x, y: (
            torch.div(x, y, rounding_mode="floor"),
            torch.div(x, y, rounding_mode="trunc"),
            torch.div(x, 2, rounding_mode="floor"),
            x // y,
            x % y,
            x % 2,
            aten.floor_divide.Scalar(x, 3),
            aten.div.Scalar_mode(x, 3, rounding_mode="trunc"),
            torch.fmod(x, y),
            torch.fmod(x, 2),
        ),
        (4 * X, positive(4, 1, 1)),
    ),
    "integers": (
        lambda x: (
            x + 1,
            x * 2.5,
            x / 2,
            x // 3,
            x % 3,
            torch.div(x, 3, rounding_mode="trunc"),
            x.clamp(2, 9),
            -x,
            x.fmod(4),
        ),
        (torch.arange(-6, 18).reshape(2, 3, 4),),
    ),
    "types meet": (
        lambda x, y: (x + y, x * torch.tensor(2.0), x > 1.5, x == y, y + x.sum(), torch.cat((x, y)), x.to(y.dtype)),
        (torch.arange(24).reshape(2, 3, 4), noise(2, 3, 4)),
    ),
    "powers": (lambda x: (x**2, x**0.5, x**-0.5, x**-1, x**1.7, 2**x, x**x, x.square()), (positive(2, 3, 4),)),
    "extremes": (
        lambda x, y: (torch.maximum(x, y), torch.minimum(x, y), aten.max.other(x, y), aten.min.other(x, y)),
        (X, X.flip(0)),
    ),
    "clamp": (
        lambda x, y: (
            x.clamp(min=0),
            x.clamp(max=0.5),
            x.clamp(-1, 1),
            x.clamp(min=y),
            x.clamp(y, y + 1),
            aten.clamp_min(x, 0),
            aten.clamp_max(x, 0),
            aten.clamp_min.Tensor(x, y),
            aten.clamp_max.Tensor(x, y),
        ),
        (X, noise(4, 1, 1)),
    ),
    "comparisons": (
        lambda x, y: (x == y, x != y, x < y, x <= y, x > y, x >= y, x == 1, x != 1, x < 1, x <= 1, x > 1, x >= 1),
        (X.round(), X.flip(1).round()),
    ),
    "logic": (
        lambda x, m: (
            *(torch.logical_and(x, m), torch.logical_or(x, m), torch.logical_xor(x, m), torch.logical_not(x)),
            *(m & (x > 0), m | (x > 0), m ^ (x > 0), ~m),
        ),
        (X.round(), MASK),
    ),
    "choice": (
        lambda x, m: (
            torch.where(m, x, 2 * x),
            torch.where(m, x, 0),
            torch.where(m, 1.0, x),
            torch.where(m, 1.0, 2.0),
            x.masked_fill(m, -1),
            x.masked_fill(m, torch.tensor(3.0)),
        ),
        (X, MASK),
    ),
    "means": (lambda x: (x.mean(), x.mean(1), x.mean((2, 3), keepdim=True), x.mean(-1, dtype=torch.float64)), (X,)),
    "sums": (lambda x: (x.sum(), x.sum((0, 2)), x.sum(1, keepdim=True), (x > 0).sum(1), x.long().sum()), (4 * X,)),
    "maxima": (
        lambda x: (x.amax((2, 3)), x.amin(1), x.max(), x.min(), x.max(1)[0], x.min(2, keepdim=True).values),
        (X,),
    ),
    "variances": (
        lambda x: (
            *(x.var((1, 2)), x.var(3, unbiased=False, keepdim=True), x.std(1), torch.var(x, 1, correction=0)),
            *(torch.std(x, 1, correction=2), *torch.var_mean(x, 1), *torch.var_mean(x, (2, 3), correction=0)),
        ),
        (X,),
    ),
    "variances of all": (lambda x: (x.var(), x.std(), *torch.var_mean(x), *torch.var_mean(x, 1, True, True)), (M,)),
    "variances, other overloads": (
        lambda x: (
            *(aten.var.dim(x, [1], False), aten.std.dim(x, [1]), *aten.var_mean.dim(x, [1], False, True)),
            *(aten.var(x), aten.std(x), *aten.var_mean(x)),
        ),
        (M,),
    ),
    "norms": (
        lambda x: (F.normalize(x, dim=1), x.norm(), x.norm(2, 1), x.norm(1, 1, True), aten.norm.Scalar(x), x.norm(p=1)),
        (X,),
    ),
    "vector norm": (lambda x: (torch.linalg.vector_norm(x, 2, 1), torch.linalg.vector_norm(x)), (X,)),
    "norm with options": (lambda x: aten.norm.ScalarOpt_dim(x, 2, [1], True), (X,)),
    "shapes": (
        lambda x: (
            *(
                x.view(x.shape[0], -1),
                x.reshape(-1, 8),
                x.flatten(1),
                x.flatten(2, 3),
                x.flatten(),
                x.unflatten(1, (2, 2)),
            ),
            *(x.unsqueeze(-1), x[:, :1].squeeze(1), x[:, :1].squeeze((1,)), x[:, :1].squeeze(), x.view_as(x + 1)),
            *(x.flatten(2).reshape_as(x), aten._unsafe_view(x, [2, 4, -1])),
        ),
        (X,),
    ),
    "axes": (
        lambda x: (
            *(x.permute(0, 2, 3, 1), x.transpose(1, -1), x.movedim(1, -1), torch.movedim(x, (1, 2), (3, 1))),
            *(torch.swapaxes(x, 1, 2), x.mean((2, 3)).t()),
        ),
        (X,),
    ),
    "copies": (
        lambda x: (
            *(
                x.transpose(1, 3).contiguous(),
                x.clone(),
                x.detach() + 1,
                F.dropout(x, 0.5, False),
                F.dropout2d(x, 0.5, False),
            ),
            *(aten.alias(x), aten.lift_fresh_copy(x)),
        ),
        (X,),
    ),
    "conversions": (
        lambda x, y: (
            *(
                x.to(torch.float64),
                x.int(),
                x.bool(),
                x.to(y),
                x.type_as(y),
                x.to("cpu", torch.float64),
                x.to(torch.uint8),
            ),
            aten._to_copy(x, dtype=torch.float64),
            aten.to.dtype_layout(x, dtype=torch.float64),
            aten.to.other(x, y),
        ),
        (positive(2, 3), torch.arange(3)),
    ),
    "repeats": (
        lambda x: (
            x.expand(3, 2, 5),
            x.expand(-1, 5),
            x.expand_as(x + 1),
            x.repeat(2, 3),
            x.repeat(2, 1, 1),
            x.tile(2),
        ),
        (noise(2, 1),),
    ),
    "joined": (
        lambda x, y: (
            *(torch.cat((x, y), 1), torch.stack((x, y), -1), torch.concat((x, x), 2)),
            *(torch.concatenate((x, y), -1), torch.cat((torch.zeros(0), x))),
        ),
        (X, 2 * X),
    ),
    "channels": (
        lambda x: (
            F.channel_shuffle(x, 2),
            F.pixel_shuffle(x, 2),
            F.pixel_unshuffle(x, 2),
            aten.native_channel_shuffle(x, 2),
        ),
        (X,),
    ),
    "channel shuffle by hand": (lambda x: x.view(-1, 2, 2, 6, 8).transpose(1, 2).reshape(-1, 4, 6, 8), (X,)),
    "padding": (
        lambda x: (
            *(F.pad(x, (1, 2)), F.pad(x, (0, 1, 2, 0), value=1.5), F.pad(x, (1, 0, 2, 1), "reflect")),
            *(F.pad(x, (1, 0, 2, 1), "replicate"), F.pad(x, (-1, 0, 1, -2)), F.pad(x, (0, 0, 0, 0, 0, 2))),
            *(aten.constant_pad_nd(x, [1, 1], 2.0), aten.reflection_pad2d(x, [1, 1, 2, 2])),
            *(aten.replication_pad2d(x, [1, 1, 2, 2]), aten.reflection_pad1d(x[0], [1, 2])),
            aten.replication_pad1d(x[0], [1, 2]),
        ),
        (X,),
    ),
    "slices": (
        lambda x: (x[:, 1:3], x[..., ::2], x[:, -1], x[:, 2], x[1:], x[:, :-1], x.narrow(2, 1, 3), x.narrow(1, -2, 2)),
        (X,),
    ),
    "parts": (
        lambda x: (
            *(*x.split(3, 1), *x.split([1, 3], 1), *x.chunk(2, 1), *x.chunk(3, 3), *x.unbind(1)),
            *(*aten.chunk(x, 2, 2), *aten.split.sizes(x, [1, 3], 1), *x.split(x.shape[2] // 2, 2)),
        ),
        (X,),
    ),
    "parts of an open axis": (lambda x: x.split(1)[:2], (X,)),
    "indices": (
        lambda x: (
            *(x[:, INDEX], x.index_select(1, INDEX), x[:, :, INDEX.reshape(3, 1), torch.tensor([1, 2])], x.flip(1, 3)),
            *(x.roll(2, 1), x.roll((1, -1), (2, 3)), F.embedding(INDEX, x.flatten(1))),
        ),
        (noise(4, 4, 6, 8),),
    ),
    "writes": (
        lambda x: (
            *(aten.slice_scatter(x, 2 * x[:, :2], 1, 1, 3), aten.select_scatter(x, x[:, 0], 1, -1)),
            *(
                aten.copy(x, torch.tensor(2.0)),
                aten.fill.Scalar(x, 2),
                aten.fill.Tensor(x, torch.tensor(2.0)),
                aten.zero(x),
            ),
        ),
        (X,),
    ),
    "resize nearest": (
        lambda x: (
            *(
                F.interpolate(x, scale_factor=2),
                F.interpolate(x, size=(9, 5)),
                F.interpolate(x, scale_factor=(1.3, 0.7)),
            ),
            *(
                F.interpolate(x, size=(9, 5), mode="nearest-exact"),
                F.interpolate(x, scale_factor=1.7, mode="nearest-exact"),
            ),
            *(aten.upsample_nearest2d(x, [7, 7], 1.2, 0.9), aten._upsample_nearest_exact2d(x, [7, 7])),
        ),
        (X,),
    ),
    "resize bilinear": (
        lambda x: (
            F.interpolate(x, scale_factor=2, mode="bilinear"),
            F.interpolate(x, size=(9, 5), mode="bilinear", align_corners=True),
            F.interpolate(x, scale_factor=(1.3, 0.7), mode="bilinear"),
            F.interpolate(x, scale_factor=1.3, mode="bilinear", recompute_scale_factor=True),
            aten.upsample_bilinear2d(x, [7, 7], False),
        ),
        (X,),
    ),
    "resize to another map": (
        lambda x, y: F.interpolate(x, size=y.shape[-2:], mode="bilinear", align_corners=False) + y,
        (X, noise(2, 4, 12, 10)),
    ),
    "created": (
        lambda x: (
            *(
                x + torch.zeros(4, 1, 1),
                x + torch.ones_like(x),
                torch.full((2, 3), 1.5),
                torch.full_like(x, 2),
                x.new_zeros(3),
            ),
            *(x.new_ones(2), x.new_full((2,), 4), torch.zeros_like(x), torch.ones(()), torch.zeros(x.shape[0], 2)),
            *(
                torch.arange(5),
                torch.arange(1, 6),
                torch.arange(1, 6, 2),
                torch.arange(0, 1, 0.25),
                aten.scalar_tensor(2.0),
            ),
            torch.arange(x.shape[2]),
        ),
        (X,),
    ),
    "channels last": (
        lambda x: (
            F.adaptive_avg_pool2d(x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2), 1),
            torch.as_strided(x, x.shape, x.stride()),
        ),
        (X,),
    ),
    "sizes": (
        lambda x: (
            x.reshape(x.shape[0] * x.shape[2], -1),
            x.reshape(x.shape[0], x.shape[1], x.shape[2] // 2, 2, x.shape[3]),
            x[:, :, : x.shape[2] - 2],
            x[:, :, x.shape[2] // 2],
            torch.zeros(x.shape[0] + 1, x.shape[2] % 4 + 1),
            x.mean((2, 3)) * x.shape[2],
            x / x.numel(),
            x.shape[0] * x.shape[3],
            torch.full((1,), x.shape[2] / 4),
            x.expand(x.shape[0], 4, x.shape[2], 8),
            x[:, :, -(x.shape[2] // 4) - 1 :],
            x * torch.sym_float(x.shape[2]),
            torch.zeros(torch.sym_max(x.shape[0], x.shape[2]), torch.sym_min(x.shape[0], x.shape[2])),
        ),
        (X,),
    ),
}

MODULES: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {
    **{name: (Wrapped(function), inputs) for name, (function, inputs) in FUNCTIONS.items()},
    "in place": (Inplace(), (X,)),
    "no_grad": (NoGrad(), (X,)),
    "normalisations": (Normalised().eval(), (X,)),
}


def dynamic(inputs: tuple[Tensor, ...]) -> Any:
    """All lengths but the channels of maps may vary, where the module allows it."""
    auto = torch.export.Dim.AUTO
    return [{axis: auto for axis in range(x.ndim) if axis != 1} if x.ndim == 4 else {} for x in inputs]


SEEN: set[str] = set()


@pytest.mark.parametrize("form", ["as exported", "dynamic", "dynamic, decomposed"])
@pytest.mark.parametrize("name", MODULES)
def test_operators(name: str, form: str, tmp_path: Path) -> None:
    module, inputs = MODULES[name]
    if (name, form) == ("native_batch_norm legit", "dynamic, decomposed"):
        pytest.skip("PyTorch refuses to decompose an operator that writes to a constant")
    shapes = (tuple(dynamic(inputs)),) if isinstance(module, Wrapped) else tuple(dynamic(inputs))
    module(*(x.clone() for x in inputs))
    program = export(module, inputs, shapes if "dynamic" in form else None)
    program = decomposed(program) if "decomposed" in form else program
    SEEN.update(targets(program))
    graph = read_back(program, tmp_path)
    assert_same(graph, module, inputs)
    if any(isinstance(length, str) for value in graph.inputs for length in value.shape):
        assert_same(graph, module, larger(graph, inputs))


def test_every_row_is_exercised() -> None:
    """Runs after the others: a row that no exported program above uses would go untested."""
    functional = {name.replace("_.", ".") for name in SEEN}
    assert sorted(set(OPERATORS) - SEEN - functional) == []
