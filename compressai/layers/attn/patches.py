# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Changes of resolution between the stages of a Swin transformer."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from compressai.layers.attn.windows import pad_to_window_multiple

__all__ = ["PatchEmbed", "PatchMerging", "PatchSplit"]


def _to_map(x: Tensor, H: int, W: int) -> Tensor:
    """View tokens ``(B, L, C)`` as a map ``(B, H, W, C)``."""
    batch, length, channels = x.shape
    if length != H * W:
        raise ValueError(f"x must have H * W tokens, got {length} tokens, H={H}, W={W}")
    return x.reshape(batch, H, W, channels)


class PatchEmbed(nn.Module):
    """Cut an image into patches and embed each by a linear map (a strided convolution).

    Args:
        patch_size: side of a patch in pixels.
        in_chans: channels of the image.
        embed_dim: channels of an embedded patch.
        norm_layer: class of the normalisation, called with ``embed_dim``; None for none.

    State dict: ``proj``, and ``norm`` if wanted.
    Shape: ``(B, in_chans, H, W)`` to ``(B, ceil(H / patch_size), ceil(W / patch_size),
    embed_dim)``; the image is padded with zeros on the right and at the bottom.
    Source: Liu et al. 2021, "Swin transformer", sec. 3.1.
    """

    def __init__(
        self,
        patch_size: int = 2,
        in_chans: int = 3,
        embed_dim: int = 48,
        norm_layer: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.Identity() if norm_layer is None else norm_layer(embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        x, _, _ = pad_to_window_multiple(x, self.patch_size)
        return self.norm(self.proj(x).permute(0, 2, 3, 1).contiguous())


class PatchMerging(nn.Module):
    """Merge each 2 x 2 neighbourhood of tokens into one of twice the width.

    The four neighbours are joined in the order (row, column) = (0, 0), (1, 0), (0, 1), (1, 1),
    normalised, and reduced from 4C to 2C channels without bias.

    Args:
        dim: channels C of the input.
        norm_layer: class of the normalisation, called with ``4 * dim``.

    State dict: ``reduction.weight``, ``norm``.
    Shape: ``(B, H * W, C)`` to ``(B, ceil(H / 2) * ceil(W / 2), 2 * C)``; odd sides are padded with
    zeros on the right and at the bottom.
    Raises:
        ValueError: (forward) the number of tokens is not ``H * W``.
    Source: Liu et al. 2021, "Swin transformer", sec. 3.1.
    """

    def __init__(self, dim: int, norm_layer: Callable[[int], nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        self.dim = dim
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = norm_layer(4 * dim)

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        x, _, _ = pad_to_window_multiple(_to_map(x, H, W), 2, layout="BHWC")
        batch, height, width, channels = x.shape
        x = x.reshape(batch, height // 2, 2, width // 2, 2, channels)
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(batch, -1, 4 * channels)
        return self.reduction(self.norm(x))


class PatchSplit(nn.Module):
    """Split each token into a 2 x 2 neighbourhood of half the width.

    Normalised, widened from C to 2C channels without bias, then shuffled as by
    :class:`torch.nn.PixelShuffle`.

    Args:
        dim: channels C of the input, even.
        norm_layer: class of the normalisation, called with ``dim``.

    State dict: ``reduction.weight``, ``norm``.
    Shape: ``(B, H * W, C)`` to ``(B, 2H * 2W, C / 2)``.
    Raises:
        ValueError: odd ``dim``; (forward) the number of tokens is not ``H * W``.
    Source: Zou et al. 2022, "The devil is in the details: Window-based attention for image
    compression", sec. 3.3.
    """

    def __init__(self, dim: int, norm_layer: Callable[[int], nn.Module] = nn.LayerNorm) -> None:
        super().__init__()
        if dim % 2:
            raise ValueError(f"dim must be even, got dim={dim}")
        self.dim = dim
        self.reduction = nn.Linear(dim, 2 * dim, bias=False)
        self.norm = norm_layer(dim)

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        x = _to_map(self.reduction(self.norm(x)), H, W)
        x = F.pixel_shuffle(x.permute(0, 3, 1, 2), 2)
        return x.permute(0, 2, 3, 1).flatten(1, 2)
