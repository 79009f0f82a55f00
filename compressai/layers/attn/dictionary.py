# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Attention to a learned dictionary, and the gated and multi-scale blocks around it.

Source of all: Lu et al. 2025, "Learned image compression with dictionary-based entropy model".
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai._moved import deprecated_names
from compressai.layers.attn.blocks import apply_channels_last
from compressai.layers.residual import conv1x1

__all__ = [
    "ConvWithDW",
    "ConvolutionalGLU",
    "DWConv",
    "DenseBlock",
    "MultiScaleAggregation",
    "MultiScaleDictionaryCrossAttentionGLU",
    "Scale",
    "SpatialAttentionModule",
]


def _depthwise3x3(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=channels)


class Scale(nn.Module):
    """A factor for each channel.

    Args:
        dim: channels C.
        init_value: initial value of all factors.
        trainable: whether the factors are trained.

    State dict: ``scale`` ``(C,)``.
    Shape: ``(..., C)``, input and output alike.
    """

    def __init__(self, dim: int, init_value: float = 1.0, trainable: bool = True) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), float(init_value)), requires_grad=trainable)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class DWConv(nn.Module):
    """Depthwise 3x3 convolution of a map whose channels come last.

    Args:
        dim: channels C.

    State dict: ``dwconv``.
    Shape: ``(B, H, W, C)``, input and output alike.
    """

    def __init__(self, dim: int = 768) -> None:
        super().__init__()
        self.dwconv = _depthwise3x3(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ConvolutionalGLU(nn.Module):
    """Feed-forward network whose first half, behind a depthwise convolution, gates the second.

    With ``[a | g] = fc1(x)`` the result is ``fc2(act(dwconv(a)) * g)``. Both halves have
    ``hidden_features // 2`` channels.

    Args:
        in_features: channels of the input.
        hidden_features: channels of ``fc1``; ``in_features`` by default.
        out_features: channels of the output; ``in_features`` by default.
        act_layer: class of the activation, called without arguments.

    State dict: ``fc1``, ``dwconv.dwconv``, ``fc2``.
    Shape: ``(B, H, W, in_features)`` to ``(B, H, W, out_features)``.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        act_layer: Callable[[], nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        hidden = (hidden_features or in_features) // 2
        self.fc1 = nn.Linear(in_features, 2 * hidden)
        self.dwconv = DWConv(hidden)
        self.act = act_layer()
        self.fc2 = nn.Linear(hidden, out_features or in_features)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(self.act(self.dwconv(x)) * gate)


class ConvWithDW(nn.Module):
    """A depthwise 3x3 between two 1x1 convolutions, with GELUs between.

    Args:
        input_dim: channels of the input, and of the depthwise convolution.
        output_dim: channels of the output.

    State dict: ``in_trans``, ``dw_conv``, ``out_trans``.
    Shape: ``(B, input_dim, H, W)`` to ``(B, output_dim, H, W)``.
    """

    def __init__(self, input_dim: int = 320, output_dim: int = 320) -> None:
        super().__init__()
        self.in_trans = conv1x1(input_dim, input_dim)
        self.act1 = nn.GELU()
        self.dw_conv = _depthwise3x3(input_dim)
        self.act2 = nn.GELU()
        self.out_trans = conv1x1(input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.in_trans(x))
        return self.out_trans(self.act2(self.dw_conv(x)))


class DenseBlock(nn.Module):
    """A chain of convolutions; all links, and the input, are joined and projected.

    ``o[0] = x``, ``o[i + 1] = conv_layers[i](gelu(o[i]))``, result ``proj([o[0] | o[1] | ...])``.
    In spite of the name each layer sees only the one before it.

    Args:
        dim: channels C.
        layer_num: length of the chain.

    State dict: ``conv_layers.{i}.1`` (:class:`ConvWithDW`), ``proj``.
    Shape: ``(B, C, H, W)``, input and output alike.
    """

    def __init__(self, dim: int = 320, layer_num: int = 3) -> None:
        super().__init__()
        self.conv_layers = nn.ModuleList(
            nn.Sequential(nn.GELU(), ConvWithDW(dim, dim)) for _ in range(layer_num)
        )
        self.proj = conv1x1((layer_num + 1) * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        links = [x]
        for layer in self.conv_layers:
            links.append(layer(links[-1]))
        return self.proj(torch.cat(links, dim=1))


class SpatialAttentionModule(nn.Module):
    """One weight for each position: a convolution of the mean and the maximum over channels.

    Args:
        kernel_size: side of the kernel, odd.

    State dict: ``conv1.weight``.
    Shape: ``(B, C, H, W)`` to ``(B, 1, H, W)`` in (0, 1).
    Source: Woo et al. 2018, "CBAM: Convolutional block attention module", sec. 3.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, maximum = x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)
        return torch.sigmoid(self.conv1(torch.cat((mean, maximum), dim=1)))


class MultiScaleAggregation(nn.Module):
    """Dense convolutions, weighted by position. With ``v = dense(s(x))``: ``v * spatial_atte(v)``.

    Args:
        dim: channels C.

    State dict: ``s``, ``spatial_atte`` (:class:`SpatialAttentionModule`), ``dense``
    (:class:`DenseBlock`).
    Shape: ``(B, H, W, C)``, input and output alike.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.s = conv1x1(dim, dim)
        self.spatial_atte = SpatialAttentionModule()
        self.dense = DenseBlock(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self._aggregate(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1)

    def _aggregate(self, x: Tensor) -> Tensor:
        x = self.dense(self.s(x))
        return x * self.spatial_atte(x)


class MultiScaleDictionaryCrossAttentionGLU(nn.Module):
    """Every position of a map looks up a dictionary, for what its neighbourhood resembles.

    Let ``u = x_trans(x)``. Then::

        t = msa(ln_scale(u)) + res_scale_1(u)
        a = linear(attention(q_trans(lnx(t)), dictionary)) + res_scale_2(t)
        output_trans(mlp(ln_mlp(a)) + res_scale_3(a))

    The attention has a trained factor for the logits of each head and no other. Its values are
    the normalised entries of the dictionary, its keys a linear map of these.

    Args:
        input_dim: channels of the map.
        output_dim: channels of the result.
        mlp_rate: hidden channels of the feed-forward network, in units of ``dictionary_dim``.
        head_num: heads.
        qkv_bias: give ``x_trans``, ``q_trans``, ``k`` and ``linear`` a bias.
        dictionary_dim: width D of an entry of the dictionary, and the width inside;
            ``32 * head_num`` by default.

    State dict: ``scale`` ``(head_num, 1, 1)``, ``x_trans``, ``ln_scale``, ``msa``
    (:class:`MultiScaleAggregation`), ``lnx``, ``q_trans``, ``dict_ln``, ``k``, ``linear``,
    ``ln_mlp``, ``mlp`` (:class:`ConvolutionalGLU`), ``output_trans.0``,
    ``res_scale_{1..3}.scale``.
    Shape: ``(B, input_dim, H, W)`` and a dictionary of n entries ``(B, n, D)`` to
    ``(B, output_dim, H, W)``.
    Raises:
        ValueError: ``head_num`` does not divide ``dictionary_dim``.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        mlp_rate: int = 4,
        head_num: int = 20,
        qkv_bias: bool = True,
        dictionary_dim: int | None = None,
    ) -> None:
        super().__init__()
        dim = 32 * head_num if dictionary_dim is None else dictionary_dim
        if head_num < 1 or dim < 1 or dim % head_num:
            raise ValueError(
                "head_num must divide dictionary_dim, got "
                f"dictionary_dim={dim}, head_num={head_num}"
            )
        self.input_dim = input_dim
        self.output_dim = output_dim
        self.head_num = head_num
        self.dictionary_dim = dim
        self.scale = nn.Parameter(torch.ones(head_num, 1, 1))
        self.x_trans = nn.Linear(input_dim, dim, bias=qkv_bias)
        self.ln_scale = nn.LayerNorm(dim)
        self.msa = MultiScaleAggregation(dim)
        self.lnx = nn.LayerNorm(dim)
        self.q_trans = nn.Linear(dim, dim, bias=qkv_bias)
        self.dict_ln = nn.LayerNorm(dim)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.linear = nn.Linear(dim, dim, bias=qkv_bias)
        self.ln_mlp = nn.LayerNorm(dim)
        self.mlp = ConvolutionalGLU(dim, mlp_rate * dim)
        self.output_trans = nn.Sequential(nn.Linear(dim, output_dim))
        self.res_scale_1 = Scale(dim)
        self.res_scale_2 = Scale(dim)
        self.res_scale_3 = Scale(dim)

    def forward(self, x: Tensor, dictionary: Tensor) -> Tensor:
        """Look up every position.

        Args:
            x: ``(B, input_dim, H, W)``.
            dictionary: ``(B, n, D)``; a view of one dictionary is best, see
                :meth:`~compressai.models._helpers.dictionary_context.SharedDictionary.expand_for`.

        Returns:
            ``(B, output_dim, H, W)``.
        """
        return apply_channels_last(lambda y: self._look_up(y, dictionary), x)

    def _look_up(self, x: Tensor, dictionary: Tensor) -> Tensor:
        x = self.x_trans(x)
        x = self.msa(self.ln_scale(x)) + self.res_scale_1(x)
        found = self._attend(self.q_trans(self.lnx(x)), dictionary)
        x = self.linear(found) + self.res_scale_2(x)
        x = self.mlp(self.ln_mlp(x)) + self.res_scale_3(x)
        return self.output_trans(x)

    def _attend(self, query: Tensor, dictionary: Tensor) -> Tensor:
        # One dictionary for the whole batch needs its keys computed once.
        shared = dictionary.shape[0] > 1 and dictionary.stride(0) == 0
        values = self.dict_ln(dictionary[:1] if shared else dictionary)
        keys = self._heads(self.k(values)) * self.scale
        batch, height, width, dim = query.shape
        q = self._heads(query.flatten(1, 2))
        k = keys.expand(batch, -1, -1, -1)
        v = self._heads(values).expand(batch, -1, -1, -1)
        found = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return found.transpose(1, 2).reshape(batch, height, width, dim)

    def _heads(self, x: Tensor) -> Tensor:
        """``(B, L, D)`` to ``(B, heads, L, D / heads)``."""
        return x.unflatten(-1, (self.head_num, -1)).transpose(1, 2)


__getattr__ = deprecated_names(__name__)
