# SPDX-License-Identifier: BSD-3-Clause-Clear
"""HPCM: partial convolutions as transforms, and a latent coded in eleven steps over three grids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs import (
    HierarchicalProgressiveLatentCodec,
    HyperpriorLatentCodec,
    LearnedScaleLatentCodec,
    ProgressivePrior,
)
from compressai.layers.hierarchical import (
    DWConvResBlock,
    PConvResBlock,
    WindowedCrossAttention,
)
from compressai.models._helpers.sizes import consecutive, numbers_after
from compressai.models._helpers.upstream import has_root, rename, strip_wrapper
from compressai.models._loading import ConvertedModel
from compressai.models._state_dict import entry_size
from compressai.registry import ModelEntry, known_lambdas, register_entry, register_model

__all__ = ["HPCM", "SIZES", "convert_upstream_hpcm_state_dict", "hpcm_scale_table"]

SIZES: Mapping[str, Mapping[str, Any]] = {
    "base": {},
    "large": {
        "blocks": (2, 2, 8, 0),
        "synthesis_blocks": (0, 8, 2, 2),
        "prior_blocks": ((2, 2, 0), (4, 3, 0)),
    },
    "phi": {"attention": False},
    "1b": {
        "M": 512,
        "widths": (192, 384, 768, 512),
        "blocks": (3, 9, 3, 3),
        "synthesis_blocks": (3, 9, 3, 3),
        "image_kernel": 2,
        "hyper_width": 512,
        "hyper_blocks": (4, 9),
        "partial_ratio": 2,
        "adaptor_blocks": (5, 5, 7),
        "prior_blocks": ((5, 3, 2), (6, 4, 2)),
        "attention": False,
    },
}
"""Constructor arguments of the published models, by name."""

_WINDOWS = (4, 8, 8)
_NUM_HEADS = 32


def hpcm_scale_table() -> list[float]:
    """The scales of the latent: 60 in geometric progression from 0.12 to 64."""
    scales = 0.12 * (64 / 0.12) ** (np.arange(60) / 59)
    return scales.astype(np.float32).tolist()


@register_model("hpcm")
class HPCM(ConvertedModel):
    """Hierarchical progressive context model; the defaults are those of HPCM-Base.

    ``P`` stands for :class:`~compressai.layers.hierarchical.PConvResBlock`, ``D`` for
    :class:`~compressai.layers.hierarchical.DWConvResBlock`, arrows for (transposed) convolutions
    with stride 2::

        g_a   3 -> 96, 2 P, -> 192, 2 P, -> 384, 4 P, -> M
        g_s   M -> 384, 4 P, -> 192, 2 P, -> 96, 2 P, -> 3
        h_a   P, M -> 256, 3 P, -> N
        h_s   N -> 256, 3 P, -> 2 M, P
        adaptors      1 x 1
        prior_s1_s2   2 D, times the step's factors, 1 D, 1 x 1
        prior_s3      3 D, times the step's factors, 2 D, 1 x 1

    Args:
        N: channels of ``z``.
        M: channels of the latent, a multiple of 8, with ``attention`` of 16.
        widths: widths of the stages of the transforms, from the image on; the last is ``M``.
            ``None`` takes ``(96, 192, 384, M)``.
        blocks: blocks in each stage of the analysis.
        synthesis_blocks: blocks in each stage of the synthesis, from the latent on.
        image_kernel: 4 or 2, side of the kernels of the layers next to the image.
        hyper_width: width of the hyper transforms between their two resampling layers.
        hyper_blocks: blocks of the hyper analysis before its first and its second such layer; the
            hyper synthesis is its mirror image.
        partial_ratio, mlp_ratio: of the blocks.
        adaptor_blocks: depthwise blocks of each adaptor, by grid; 0 stands for a 1 x 1 layer.
        prior_blocks: depthwise blocks of the two priors: of the first branch, and of the second
            before and after its 1 x 1 layer.
        attention: carry the context on by window attention; else the parameters are the context.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    :data:`SIZES` has the arguments of the four published models: ``HPCM(**SIZES["large"])``.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 256, without attention of
    128.

    Raises:
        ValueError: arguments do not fit each other; the message tells which.

    Source: Li et al. 2025, "Learned image compression with hierarchical progressive context
    modeling".
    """

    def __init__(
        self,
        N: int = 256,
        M: int = 320,
        widths: Sequence[int] | None = None,
        blocks: Sequence[int] = (2, 2, 4, 0),
        synthesis_blocks: Sequence[int] = (0, 4, 2, 2),
        image_kernel: int = 4,
        hyper_width: int = 256,
        hyper_blocks: Sequence[int] = (1, 3),
        partial_ratio: int = 4,
        mlp_ratio: int = 4,
        adaptor_blocks: Sequence[int] = (0, 0, 0),
        prior_blocks: Sequence[Sequence[int]] = ((2, 1, 0), (3, 2, 0)),
        attention: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        widths = (96, 192, 384, M) if widths is None else tuple(widths)
        _check_sizes(M, widths, blocks, synthesis_blocks, image_kernel, attention)
        self.N = N
        self.M = M
        self.widths = widths
        self.attention = bool(attention)

        def stage(channels: int, count: int) -> list[nn.Module]:
            return [PConvResBlock(channels, partial_ratio, mlp_ratio) for _ in range(count)]

        def down(channels: int, out: int, kernel: int = 2) -> nn.Conv2d:
            return nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2 - 1)

        def up(channels: int, out: int, kernel: int = 2) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(channels, out, kernel, stride=2, padding=kernel // 2 - 1)

        g_a: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((3, *widths))):
            g_a += [down(a, b, 2 if i else image_kernel), *stage(b, blocks[i])]
        g_s: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise((*widths[::-1], 3))):
            g_s += [*stage(a, synthesis_blocks[i]), up(a, b, image_kernel if b == 3 else 2)]
        self.g_a = nn.Sequential(*g_a)
        self.g_s = nn.Sequential(*g_s)

        outer, inner = hyper_blocks
        self.latent_codec = HyperpriorLatentCodec(
            {
                "y": _progressive_codec(M, adaptor_blocks, prior_blocks, self.attention),
                "z": LearnedScaleLatentCodec(N),
            },
            h_a=nn.Sequential(
                *stage(M, outer),
                down(M, hyper_width),
                *stage(hyper_width, inner),
                down(hyper_width, N),
            ),
            h_s=nn.Sequential(
                up(N, hyper_width),
                *stage(hyper_width, inner),
                up(hyper_width, 2 * M),
                *stage(2 * M, outer),
            ),
        )

    whole_units = True
    # The authors' program has the constants of the entropy models elsewhere.
    _CONSTANTS = (".bound", ".scale_bound")

    @property
    def downsampling_factor(self) -> int:
        """Sides of an image must be multiples of this."""
        # The coarsest grid has even sides; with attention, sides that are multiples of its window.
        coarsest = _WINDOWS[0] if self.attention else 2
        return 2 ** len(self.widths) * 4 * coarsest

    def update(
        self,
        scale_table: Sequence[float] | Tensor | None = None,
        force: bool = False,
        update_quantiles: bool = False,
        solve_quantiles: bool = False,
    ) -> bool:
        """Build the tables of the entropy models.

        Args:
            scale_table: scales of the latent; ``None`` takes :func:`hpcm_scale_table`.
            force: build tables that exist, too.
            update_quantiles, solve_quantiles: of no effect: there are no quantiles.

        Returns:
            Whether any table was built.
        """
        table = hpcm_scale_table() if scale_table is None else scale_table
        updated = self.latent_codec.z.update(force)
        return self.latent_codec.y.gaussian_conditional.update_scale_table(table, force) or updated

    # -- loading --------------------------------------------------------------------------------

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_hpcm_state_dict`."""
        return convert_upstream_hpcm_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments of the model that native weights are of."""
        return _sizes_of(state_dict)


def _progressive_codec(
    M: int, adaptor_blocks: Sequence[int], prior_blocks: Sequence[Sequence[int]], attention: bool
) -> HierarchicalProgressiveLatentCodec:
    """The codec of the latent."""

    def depthwise(channels: int, count: int) -> list[nn.Module]:
        return [DWConvResBlock(channels) for _ in range(count)]

    def adaptors(count: int, num_blocks: int) -> list[nn.Module]:
        if num_blocks:
            return [nn.Sequential(*depthwise(3 * M, num_blocks)) for _ in range(count)]
        return [nn.Conv2d(3 * M, 3 * M, 1) for _ in range(count)]

    def prior(first: int, before: int, after: int) -> ProgressivePrior:
        return ProgressivePrior(
            nn.Sequential(*depthwise(3 * M, first)),
            nn.Sequential(
                *depthwise(3 * M, before),
                nn.Conv2d(3 * M, 2 * M, 1),
                *depthwise(2 * M, after),
            ),
        )

    s1, s2, s3 = adaptor_blocks
    prior_s1_s2, prior_s3 = prior_blocks
    return HierarchicalProgressiveLatentCodec(
        M,
        adaptor_s1=adaptors(1, s1),
        adaptor_s2=adaptors(3, s2),
        adaptor_s3=adaptors(6, s3),
        prior_s1_s2=prior(*prior_s1_s2),
        prior_s3=prior(*prior_s3),
        context_net=[nn.Conv2d(2 * M, 2 * M, 1) for _ in range(2)],
        attention=[WindowedCrossAttention(2 * M, side, _NUM_HEADS) for side in _WINDOWS]
        if attention
        else None,
    )


def _check_sizes(
    M: int,
    widths: Sequence[int],
    blocks: Sequence[int],
    synthesis_blocks: Sequence[int],
    image_kernel: int,
    attention: bool,
) -> None:
    if not len(widths) == len(blocks) == len(synthesis_blocks) > 0 or widths[-1] != M:
        raise ValueError(
            "widths, blocks and synthesis_blocks must have one entry a stage, and widths end with "
            f"M={M}, got widths={widths}, blocks={blocks}, synthesis_blocks={synthesis_blocks}"
        )
    if image_kernel not in (2, 4):
        raise ValueError(f"image_kernel must be 2 or 4, got {image_kernel}")
    if M < 8 or M % 8 or (attention and 2 * M % _NUM_HEADS):
        raise ValueError(f"M must be a multiple of 8, with attention of 16, got {M}")


# -- sizes from weights -------------------------------------------------------------------------

_BLOCK = ".branch.0.pconv.weight"


def _sizes_of(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """Constructor arguments of the model that native weights are of."""
    M = entry_size(state_dict, "latent_codec.y.context_net.0.weight", 0, HPCM) // 2
    layers, blocks = _stages(state_dict, "g_a")
    synthesis_layers, (*synthesis_blocks, _) = _stages(state_dict, "g_s")
    hyper_layers, (outer, inner, _) = _stages(state_dict, "latent_codec.h_a", 2)
    if not len(layers) == len(synthesis_layers) == len(blocks) - 1 or blocks[0]:
        raise ValueError("this state dict is not of HPCM: its transforms have different stages")
    block = next((key for key in state_dict if key.endswith(_BLOCK)), None)
    if block is None:
        raise ValueError(f"this state dict is not of HPCM: no name ends with {_BLOCK!r}")
    channels = entry_size(state_dict, block.replace("0.pconv", "1"), 1, HPCM)
    codec = "latent_codec.y"
    return {
        "N": entry_size(state_dict, "latent_codec.z.means_hyper", 1, HPCM),
        "M": M,
        "widths": [layer.size(0) for layer in layers],
        "blocks": blocks[1:],
        "synthesis_blocks": synthesis_blocks,
        "image_kernel": layers[0].size(-1),
        "hyper_width": hyper_layers[0].size(0),
        "hyper_blocks": (outer, inner),
        "partial_ratio": _partial_ratio(state_dict),
        "mlp_ratio": entry_size(state_dict, block.replace("0.pconv", "1"), 0, HPCM) // channels,
        "adaptor_blocks": [
            consecutive(state_dict, f"{codec}.adaptor_s{n}.0.{{}}.branch.0.weight")
            for n in (1, 2, 3)
        ],
        "prior_blocks": [_prior_blocks(state_dict, f"{codec}.prior_{n}") for n in ("s1_s2", "s3")],
        "attention": f"{codec}.attn_s1.conv_q.weight" in state_dict,
    }


def _stages(
    state_dict: Mapping[str, Tensor], transform: str, count: int | None = None
) -> tuple[list[Tensor], list[int]]:
    """Weights of the resampling layers of a transform, and the numbers of blocks around them."""
    layers: list[Tensor] = []
    blocks = [0]
    for place in numbers_after(state_dict, f"{transform}."):
        if f"{transform}.{place}{_BLOCK}" in state_dict:
            blocks[-1] += 1
            continue
        entry_size(state_dict, f"{transform}.{place}.weight", 3, HPCM)
        layers.append(state_dict[f"{transform}.{place}.weight"])
        blocks.append(0)
    if not layers or count not in (None, len(layers)):
        raise ValueError(f"this state dict is not of HPCM: {transform} has {len(layers)} stages")
    return layers, blocks


def _partial_ratio(state_dict: Mapping[str, Tensor]) -> int:
    """The ratio that all blocks have: one block alone may leave a choice."""
    sizes = {
        (entry_size(state_dict, key.replace("0.pconv", "1"), 1, HPCM), value.size(0))
        for key, value in state_dict.items()
        if key.endswith(_BLOCK)
    }
    largest = max(channels for channels, _ in sizes)
    for ratio in range(1, largest + 1):
        if all(channels // ratio == convolved for channels, convolved in sizes):
            return ratio
    raise ValueError("this state dict is not of HPCM: its partial convolutions have no one ratio")


def _prior_blocks(state_dict: Mapping[str, Tensor], prior: str) -> tuple[int, int, int]:
    """Blocks of the first branch of a prior, and of its second before and after the 1 x 1 layer."""
    first = len(numbers_after(state_dict, f"{prior}.branch_1."))
    places = numbers_after(state_dict, f"{prior}.branch_2.")
    layers = [i for i in places if f"{prior}.branch_2.{i}.weight" in state_dict]
    if len(layers) != 1:
        raise ValueError(
            f"this state dict is not of HPCM: {prior}.branch_2 has {len(layers)} layers beside its "
            "blocks, expected 1"
        )
    return first, layers[0], places[-1] - layers[0]


# -- weights of the authors' program ------------------------------------------------------------

_ROOTS = frozenset({"y_spatial_prior_s1_s2", "y_spatial_prior_s3", "adaptive_params_list"})
_TABLES = frozenset(
    {
        "scale_table",
        "entropy_estimation",
        *(
            f"{name}_{latent}"
            for name in ("quantized_cdf", "cdf_length", "offset")
            for latent in "yz"
        ),
    }
)
_RULES = (
    (r"^(g_[as])\.branch\.", r"\1."),
    (r"^(h_[as])\.(?:branch\.(?=\d))?", r"latent_codec.\1."),
    (r"^((?:means|scales)_hyper)$", r"latent_codec.z.\1"),
    (r"^y_spatial_prior_adaptor_list_(s\d)\.", r"latent_codec.y.adaptor_\1."),
    (r"^y_spatial_prior_(s1_s2|s3)\.", r"latent_codec.y.prior_\1."),
    (r"^adaptive_params_list\.", "latent_codec.y.adaptive_params."),
    (r"^(context_net|attn_s\d)\.", r"latent_codec.y.\1."),
)


_DOWN = r"g_a\.g_a_down\d+\.weight"


def _is_upstream_hpcm_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' program."""
    return has_root(strip_wrapper(state_dict), _ROOTS)


def convert_upstream_hpcm_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the HPCM authors' programs under the names of :class:`HPCM`.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict. Tables are left out: :meth:`HPCM.update` builds them.
    """
    state_dict = {
        key: value
        for key, value in strip_wrapper(state_dict).items()
        if key.partition(".")[0] not in _TABLES
    }
    return rename(rename(state_dict, _number_chunks(state_dict)), _RULES)


def _number_chunks(state_dict: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Rules that number the layers of 1B's transforms, which have names of their own, in order."""
    stages = range(1, 1 + sum(bool(re.fullmatch(_DOWN, key)) for key in state_dict))
    order = {
        "g_a": [name for k in stages for name in (f"down{k}", f"chunk{k}")],
        "g_s": [name for k in reversed(stages) for name in (f"chunk{k}", f"up{k}")],
    }
    rules: list[tuple[str, str]] = []
    for transform, names in order.items():
        place = 0
        for name in names:
            old = f"{transform}.{transform}_{name}."
            layers = numbers_after(state_dict, old)
            if not layers:
                rules.append((rf"^{re.escape(old)}", f"{transform}.{place}."))
            for i in layers:
                rules.append((rf"^{re.escape(old)}{i}\.", f"{transform}.{place + i}."))
            # A stage may have no blocks; a resampling layer is one.
            place += len(layers) or not name.startswith("chunk")
    return rules


# -- rows --------------------------------------------------------------------------------------

_PAPER = "Li et al. 2025, Learned image compression with hierarchical progressive context modeling"


def _size_of(weights: Mapping[str, Tensor]) -> str | None:
    """Which of :data:`SIZES` weights are of, by what the sizes have and not by how much of it."""
    weights = convert_upstream_hpcm_state_dict(weights)
    if "latent_codec.y.context_net.0.weight" not in weights:
        return None
    if "latent_codec.y.attn_s1.conv_q.weight" in weights:
        blocks = consecutive(weights, "latent_codec.y.prior_s1_s2.branch_2.{}.branch.0.weight")
        return "large" if blocks > 1 else "base"
    return "1b" if "latent_codec.y.adaptor_s1.0.0.branch.0.weight" in weights else "phi"


_SMALL = {
    "base": {
        "N": 8,
        "M": 16,
        "widths": (8, 8, 8, 16),
        "blocks": (1, 1, 2, 0),
        "synthesis_blocks": (0, 1, 1, 2),
        "hyper_width": 8,
    },
    "phi": {
        "N": 8,
        "M": 8,
        "widths": (8, 8, 8, 8),
        "blocks": (1, 1, 1, 0),
        "synthesis_blocks": (0, 1, 1, 1),
        "hyper_width": 8,
        "attention": False,
    },
    "1b": {
        "N": 8,
        "M": 8,
        "widths": (4, 8, 12, 8),
        "blocks": (1, 3, 2, 1),
        "synthesis_blocks": (2, 3, 1, 1),
        "image_kernel": 2,
        "hyper_width": 12,
        "hyper_blocks": (2, 1),
        "partial_ratio": 2,
        "adaptor_blocks": (1, 1, 2),
        "prior_blocks": ((1, 2, 1), (2, 1, 2)),
        "attention": False,
    },
}
_SMALL["large"] = {**_SMALL["base"], "prior_blocks": SIZES["large"]["prior_blocks"]}


def _register(name: str, summary: str, qualities: Sequence[int]) -> None:
    size = name.removeprefix("hpcm-")
    register_entry(
        ModelEntry(
            name=name,
            model=HPCM,
            summary=summary,
            paper=_PAPER,
            sizes=dict.fromkeys(qualities, SIZES[size]),
            needs_quality=True,
            losses=known_lambdas(*qualities),
            multiple=256 if SIZES[size].get("attention", True) else 128,
            small=_SMALL[size],
            source=name,
            detect=lambda weights: _size_of(weights) == size,
        )
    )


# Of Phi and 1B one model each was published.
_register("hpcm-base", "Latent in eleven steps over three grids", range(1, 7))
_register("hpcm-large", "HPCM with more blocks", range(1, 7))
_register("hpcm-phi", "HPCM without attention", [4])
_register("hpcm-1b", "HPCM with 1000 million parameters", [6])
