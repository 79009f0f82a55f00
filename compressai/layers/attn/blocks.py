# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transformer blocks on maps, and the blocks that mix them with convolutions.

Blocks that take and return ``(B, C, H, W)`` keep the memory format of their input: what a decoder
recomputes must not depend on the format of intermediate results.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, fx, nn

from compressai.layers._timm import make_drop_path, make_mlp
from compressai.layers.attn.attention import WMSA, ShiftedWindows, WindowAttention
from compressai.layers.residual import AttentionBlock, ResidualBlock, conv1x1

__all__ = ["Block", "ConvTransBlock", "SWAtten", "SwinBlock", "SwinTransformerBlock"]


def apply_channels_last(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of ``(B, H, W, C)`` to a ``(B, C, H, W)`` map.

    Args:
        function: called with a contiguous tensor.
        x: ``(B, C, H, W)`` in any memory format.

    Returns:
        ``(B, C', H, W)``, channels-last if and only if ``x`` was.
    """
    return _as_laid_out(function(x.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2), x)


# A call of its own to those who trace: which way it goes depends on the tensor that it gets.
@fx.wrap
def _as_laid_out(out: Tensor, like: Tensor) -> Tensor:
    """A channels-last map in the memory format of another map."""
    # Not is_contiguous: some of the channels of a channels-last map are no contiguous tensor.
    return out if like.stride(1) == 1 else out.contiguous()


class SwinTransformerBlock(ShiftedWindows):
    """Window attention and feed-forward network, each normalised before and beside a skip.

    ``x + drop_path(attention(norm1(x)))``, then ``x + drop_path(mlp(norm2(x)))``. The window is not
    made smaller for small maps; they are padded.

    Args:
        dim: channels C.
        num_heads: heads; must divide ``dim``.
        window_size: side of a window, or (height, width).
        shift_size: 0, or by how much the windows are shifted.
        mlp_ratio: hidden channels of the feed-forward network, in units of ``dim``.
        qkv_bias: see :class:`WindowAttention`.
        qk_scale: see :class:`WindowAttention`.
        drop: dropout behind the attention and in the feed-forward network, in training.
        attn_drop: dropout of the attention weights in training.
        drop_path: probability that a branch is left out for a sample in training.
        norm_layer: class of the normalisation, called with ``dim``.

    State dict: ``norm1``, ``attn`` (:class:`WindowAttention`), ``norm2``, ``mlp.fc1``, ``mlp.fc2``.
    Shape: ``(B, H, W, C)``, input and output alike, any H and W.
    Raises:
        ImportError: timm is not installed.
        ValueError: ``num_heads`` does not divide ``dim``, or an impossible shift.
    Source: Liu et al. 2021, "Swin transformer", eq. 3; Zou et al. 2022, "The devil is in the
    details: Window-based attention for image compression".
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int | tuple[int, int],
        shift_size: int = 0,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop: float = 0.0,
        attn_drop: float = 0.0,
        drop_path: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
    ) -> None:
        super().__init__(window_size, shift_size)
        self.norm1 = norm_layer(dim)
        self.attn = WindowAttention(
            dim,
            window_size,
            num_heads,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=drop,
        )
        self.drop_path = make_drop_path(drop_path)
        self.norm2 = norm_layer(dim)
        self.mlp = make_mlp(dim, int(dim * mlp_ratio), dim, drop=drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attend(self.attn, self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Block(nn.Module):
    """Transformer block of TCM: as :class:`SwinTransformerBlock`, around :class:`WMSA`.

    ``x = x + drop_path(msa(norm1(x)))``; ``residual_proj(x) + drop_path(mlp(norm2(x)))``.

    Args:
        input_dim: channels of the input.
        output_dim: channels of the output; the second skip is a linear layer if they differ.
        head_dim: channels per head; must divide ``input_dim``.
        window_size: side of a window, or (height, width).
        drop_path: probability that a branch is left out for a sample in training.
        type: ``"W"`` or ``"SW"`` (shifted windows).
        mlp_ratio: hidden channels of the feed-forward network, in units of ``input_dim``.

    State dict: ``norm1``, ``msa`` (:class:`WMSA`), ``norm2``, ``mlp.fc1``, ``mlp.fc2``, and
    ``residual_proj`` where widths differ.
    Shape: ``(B, H, W, input_dim)`` to ``(B, H, W, output_dim)``, any H and W.
    Raises:
        ImportError: timm is not installed.
        ValueError: as :class:`WMSA`.
    Source: Liu et al. 2023, "Learned image compression with mixed transformer-CNN architectures",
    sec. 3.2.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        head_dim: int,
        window_size: int | tuple[int, int],
        drop_path: float,
        type: str = "W",
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(input_dim)
        self.msa = WMSA(input_dim, input_dim, head_dim, window_size, type)
        self.drop_path = make_drop_path(drop_path)
        self.norm2 = nn.LayerNorm(input_dim)
        self.mlp = make_mlp(input_dim, int(input_dim * mlp_ratio), output_dim)
        same = input_dim == output_dim
        self.residual_proj = nn.Identity() if same else nn.Linear(input_dim, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.msa(self.norm1(x)))
        return self.residual_proj(x) + self.drop_path(self.mlp(self.norm2(x)))


class SwinBlock(nn.Module):
    """Two transformer blocks, the first with plain and the second with shifted windows.

    Args:
        input_dim: channels of the input and of the first block.
        output_dim: channels of the output.
        head_dim: channels per head; must divide ``input_dim``.
        window_size: side of a window, or (height, width).
        drop_path: probability that a branch is left out for a sample in training.
        mlp_ratio: hidden channels of the feed-forward networks, in units of ``input_dim``.

    State dict: ``block_1``, ``block_2`` (:class:`Block`).
    Shape: ``(B, input_dim, H, W)`` to ``(B, output_dim, H, W)``, any H and W.
    Raises:
        ImportError: timm is not installed.
        ValueError: as :class:`WMSA`.
    Source: Liu et al. 2023, as :class:`Block`.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        head_dim: int,
        window_size: int | tuple[int, int],
        drop_path: float,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.block_1 = Block(input_dim, input_dim, head_dim, window_size, drop_path, "W", mlp_ratio)
        self.block_2 = Block(
            input_dim, output_dim, head_dim, window_size, drop_path, "SW", mlp_ratio
        )

    def forward(self, x: Tensor) -> Tensor:
        return apply_channels_last(lambda y: self.block_2(self.block_1(y)), x)


class ConvTransBlock(nn.Module):
    """Half of the channels through a residual block, the other half through a transformer block.

    With ``u, t = split(conv1_1(x))`` the result is
    ``x + conv1_2([conv_block(u) + u | trans_block(t)])``. ``conv_block`` has a skip of its own; the
    second one around it is part of the published model.

    Args:
        conv_dim: channels of the convolutional branch.
        trans_dim: channels of the transformer branch.
        head_dim: channels per head; must divide ``trans_dim``.
        window_size: side of a window, or (height, width).
        drop_path: probability that a branch is left out for a sample in training.
        type: ``"W"`` or ``"SW"`` (shifted windows).
        mlp_ratio: hidden channels of the feed-forward network, in units of ``trans_dim``.

    State dict: ``trans_block`` (:class:`Block`), ``conv1_1``, ``conv1_2``, ``conv_block``.
    Shape: ``(B, conv_dim + trans_dim, H, W)``, input and output alike, any H and W.
    Raises:
        ImportError: timm is not installed.
        ValueError: as :class:`WMSA`.
    Source: Liu et al. 2023, as :class:`Block`, sec. 3.2 (TCM block).
    """

    def __init__(
        self,
        conv_dim: int,
        trans_dim: int,
        head_dim: int,
        window_size: int | tuple[int, int],
        drop_path: float,
        type: str = "W",
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        self.conv_dim = conv_dim
        self.trans_dim = trans_dim
        width = conv_dim + trans_dim
        self.trans_block = Block(
            trans_dim, trans_dim, head_dim, window_size, drop_path, type, mlp_ratio
        )
        self.conv1_1 = conv1x1(width, width)
        self.conv1_2 = conv1x1(width, width)
        self.conv_block = ResidualBlock(conv_dim, conv_dim)

    def forward(self, x: Tensor) -> Tensor:
        conv, trans = self.conv1_1(x).split((self.conv_dim, self.trans_dim), dim=1)
        conv = self.conv_block(conv) + conv
        trans = apply_channels_last(self.trans_block, trans)
        return x + self.conv1_2(torch.cat((conv, trans), dim=1))


class SWAtten(AttentionBlock):
    """Attention block whose mask branch sees a window through a pair of transformer blocks.

    With ``y = in_conv(x)`` the result is
    ``out_conv(conv_a(y) * sigmoid(conv_b(non_local_block(y))) + y)``.

    Args:
        input_dim: channels of the input.
        output_dim: channels of the output.
        head_dim: channels per head; must divide the inner width.
        window_size: side of a window, or (height, width).
        drop_path: probability that a branch is left out for a sample in training.
        inter_dim: inner width between two 1x1 convolutions. None: no such convolutions, the inner
            width is ``input_dim``, which ``output_dim`` must equal.

    State dict: ``conv_a``, ``conv_b``, ``non_local_block`` (:class:`SwinBlock`), ``in_conv``,
    ``out_conv``.
    Shape: ``(B, input_dim, H, W)`` to ``(B, output_dim, H, W)``, any H and W.
    Raises:
        ImportError: timm is not installed.
        ValueError: as :class:`WMSA`, or unequal widths without ``inter_dim``.
    Source: Liu et al. 2023, as :class:`Block`, sec. 3.3.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        head_dim: int,
        window_size: int | tuple[int, int],
        drop_path: float,
        inter_dim: int | None = 192,
    ) -> None:
        if inter_dim is None and input_dim != output_dim:
            raise ValueError(
                "output_dim must equal input_dim when inter_dim is None,"
                f" got input_dim={input_dim}, output_dim={output_dim}"
            )
        width = input_dim if inter_dim is None else inter_dim
        super().__init__(width)
        self.non_local_block = SwinBlock(width, width, head_dim, window_size, drop_path)
        self.in_conv = nn.Identity() if inter_dim is None else conv1x1(input_dim, width)
        self.out_conv = nn.Identity() if inter_dim is None else conv1x1(width, output_dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.in_conv(x)
        mask = torch.sigmoid(self.conv_b(self.non_local_block(x)))
        return self.out_conv(self.conv_a(x) * mask + x)
