"""Fused kernels spelled out: what mixes two layers, and what is called whatever one asks for.

`nn.MultiheadAttention` and `nn.TransformerEncoderLayer` have a fast path of one opaque operator. An `nn.Module` takes
the open path while it is traced; a ScriptModule does not, so its fast path is replaced by the same arithmetic. So are
the cells of recurrent networks and `nn.RMSNorm`, which are fused on CUDA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .kinds import known

aten = torch.ops.aten
KEY_PADDING = 1  # mask_type of a mask [N, keys]; others are broadcastable to [N, heads, queries, keys]


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim: int,
    num_head: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    mask: Tensor | None = None,
    need_weights: bool = True,
    average_attn_weights: bool = True,
    mask_type: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`aten._native_multi_head_attention` on [N, tokens, embed_dim]; the mask hides what may not be read."""
    q, k, v = (
        F.linear(x, weight, bias).unflatten(-1, (num_head, -1)).transpose(1, 2)
        for x, weight, bias in zip((query, key, value), qkv_weight.chunk(3), qkv_bias.chunk(3), strict=True)
    )
    scores = (q * (embed_dim // num_head) ** -0.5) @ k.mT
    if mask is not None:  # the kernel takes numbers for booleans, too: whatever is not zero hides
        hidden = mask.bool()
        scores = scores.masked_fill(hidden[:, None, None] if mask_type == KEY_PADDING else hidden, float("-inf"))
    weights = scores.softmax(-1)
    result = F.linear((weights @ v).transpose(1, 2).flatten(2), proj_weight, proj_bias)
    if not need_weights:
        return result, weights.new_empty(0)
    return result, weights.mean(1) if average_attn_weights else weights


def encoder_layer(
    src: Tensor,
    embed_dim: int,
    num_heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    proj_weight: Tensor,
    proj_bias: Tensor,
    use_gelu: bool,
    norm_first: bool,
    eps: float,
    norm_weight_1: Tensor,
    norm_bias_1: Tensor,
    norm_weight_2: Tensor,
    norm_bias_2: Tensor,
    ffn_weight_1: Tensor,
    ffn_bias_1: Tensor,
    ffn_weight_2: Tensor,
    ffn_bias_2: Tensor,
    mask: Tensor | None = None,
    mask_type: int | None = None,
) -> Tensor:
    """`aten._transformer_encoder_layer_fwd` on [N, tokens, embed_dim]."""

    def attend(x: Tensor) -> Tensor:
        qkv = (embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias)
        return attention(x, x, x, *qkv, mask, need_weights=False, mask_type=mask_type)[0]

    def feed_forward(x: Tensor) -> Tensor:
        x = F.linear(x, ffn_weight_1, ffn_bias_1)
        return F.linear(F.gelu(x) if use_gelu else F.relu(x), ffn_weight_2, ffn_bias_2)

    def first_norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, (embed_dim,), norm_weight_1, norm_bias_1, eps)

    def second_norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, (embed_dim,), norm_weight_2, norm_bias_2, eps)

    if norm_first:
        src = src + attend(first_norm(src))
        return src + feed_forward(second_norm(src))
    src = first_norm(src + attend(src))
    return second_norm(src + feed_forward(src))


def biased_matmul(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`aten.baddbmm`, which adds masks to attention scores."""
    product = torch.bmm(a, b)
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # the bias is not read: attention gives memory that nobody has written to
        return product
    return (bias if beta == 1 else bias * beta) + product


def lstm_cell(
    from_input: Tensor, from_state: Tensor, cell: Tensor, input_bias: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`aten._thnn_fused_lstm_cell`: the state, the cell, and what only training reads."""
    gates = _plus(from_input, input_bias) + _plus(from_state, bias)
    admit, keep, new, show = gates.chunk(4, 1)
    cell = keep.sigmoid() * cell + admit.sigmoid() * new.tanh()
    return show.sigmoid() * cell.tanh(), cell, gates.new_empty(0)


def gru_cell(
    from_input: Tensor, from_state: Tensor, state: Tensor, input_bias: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`aten._thnn_fused_gru_cell`: the state, and what only training reads."""
    reset, keep, new = _plus(from_input, input_bias).chunk(3, 1)
    old_reset, old_keep, old = _plus(from_state, bias).chunk(3, 1)
    new = (new + (old_reset + reset).sigmoid() * old).tanh()
    return (state - new) * (old_keep + keep).sigmoid() + new, state.new_empty(0)


def _plus(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias


SPELLED_OUT: dict[Any, Callable[..., Any]] = {
    aten._native_multi_head_attention.default: attention,
    aten._transformer_encoder_layer_fwd.default: encoder_layer,
    aten.baddbmm.default: biased_matmul,
    aten._thnn_fused_lstm_cell.default: lstm_cell,
    aten._thnn_fused_gru_cell.default: gru_cell,
    **{kernel.default: kernel.default.decompose for kernel in known("_fused_rms_norm")},
}
