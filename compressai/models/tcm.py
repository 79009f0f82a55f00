# SPDX-License-Identifier: BSD-3-Clause-Clear
"""TCM: transforms that mix convolutions with window attention, and slices with attended support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.layers import (
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)
from compressai.layers.attn import ConvTransBlock, SWAtten
from compressai.layers.stochastic_depth import drop_path_rates
from compressai.models._helpers.auxt import (
    AuxTTransform,
    build_iwls_branch,
    build_wls_branch,
    compute_analysis_aux_positions,
    compute_synthesis_aux_positions,
    has_auxt_state,
    is_auxt_upstream_wavelet_buffer_key,
    is_auxt_wavelet_buffer_key,
)
from compressai.models._helpers.sizes import numbers_after, window_size
from compressai.models._helpers.upstream import (
    COMMON_ROOTS,
    HYPER_RULES,
    has_names,
    has_root,
    rename,
    replicate,
    slice_rules,
    strip_wrapper,
)
from compressai.models._state_dict import entry_size
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_slice_hyperprior,
    equal_slices,
)
from compressai.registry import LAMBDAS, ModelEntry, at_qualities, register_entry, register_model

__all__ = ["TCM", "convert_upstream_tcm_state_dict"]

_CONFIG = (2, 2, 2, 2, 2, 2)
_HEAD_DIM = (8, 16, 32, 32, 16, 8)
_TABLE = "trans_block.msa.attn.relative_position_bias_table"
# Every TCM has this one, even without any blocks in its transforms.
_CONTEXT_TABLE = (
    "latent_codec.y.channel_context.y0.mean_support_transform.non_local_block.block_1."
    "msa.attn.relative_position_bias_table"
)


@register_model("lic-tcm")
@register_model("tcm")
class TCM(ChannelSliceModel):
    """Mixed transformer and convolution transforms, and window attention in the entropy model.

    Args:
        config: blocks in each stage, three of the analysis and three of the synthesis; the hyper
            transforms have as many as the first stage of either.
        head_dim: channels of an attention head in each stage.
        drop_path_rate: stochastic depth of the last block of the transforms, ascending from 0.
        N: channels of each branch; feature maps have ``2 N``.
        M: channels of the latent.
        hyper_channels: channels of ``z``.
        num_slices: number of (equal) slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all.
        window_size: side of the attention windows.
        hyper_window_size: the same in the hyper transforms.
        hyper_head_dim: channels of an attention head in the hyper transforms.
        use_auxt: put a linear wavelet branch beside each transform, which makes training faster.
            Add ``0.1 * net.ortho_loss()`` to the loss; ``aux_loss()`` alone does not train it.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`, such as
            ``use_cca``.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    The correction of a slice sees the mean's support behind its attention, as in the authors'
    program, so that published weights give the authors' results. For weights that were trained with
    the support before it, set ``emit_mean_support = "pre"`` on every head in
    ``latent_codec.y.channel_context``; the weights have the same names and shapes.

    Weights of AuxT come in two kinds with the same names and shapes. Those of the first release
    (February 2025) merge the branch of the synthesis where the analysis does: for these set
    ``net.g_s.merge_positions = net.g_a.merge_positions``.

    Raises:
        ValueError: ``config`` or ``head_dim`` is not of six entries, a negative number of blocks,
            a ``head_dim`` that does not divide ``N``, or ``num_slices`` that does not divide ``M``.

    Source: Liu et al. 2023, "Learned image compression with mixed transformer-CNN architectures";
    AuxT: Li et al. 2025, "On disentangled training for nonlinear transform in learned image
    compression".
    """

    def __init__(
        self,
        config: Sequence[int] | None = None,
        head_dim: Sequence[int] | None = None,
        drop_path_rate: float = 0.0,
        N: int = 128,
        M: int = 320,
        hyper_channels: int = 192,
        num_slices: int = 5,
        max_support_slices: int = 5,
        window_size: int = 8,
        hyper_window_size: int = 4,
        hyper_head_dim: int = 32,
        use_auxt: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.config = tuple(_CONFIG if config is None else config)
        self.head_dim = tuple(_HEAD_DIM if head_dim is None else head_dim)
        _check_stages(self.config, self.head_dim, N, hyper_head_dim)
        self.N = N
        self.M = M
        self.hyper_channels = hyper_channels
        self.num_slices = num_slices
        self.max_support_slices = max_support_slices
        self.window_size = window_size
        self.hyper_window_size = hyper_window_size
        self.hyper_head_dim = hyper_head_dim

        rates = drop_path_rates(drop_path_rate, self.config)

        def stage(i: int) -> list[nn.Module]:
            return _blocks(N, self.head_dim[i], window_size, rates[i])

        def hyper_stage(i: int) -> list[nn.Module]:
            return _blocks(N, hyper_head_dim, hyper_window_size, [0.0] * self.config[i])

        def hyper_synthesis() -> nn.Sequential:
            return nn.Sequential(
                ResidualBlockUpsample(hyper_channels, 2 * N, 2),
                *hyper_stage(3),
                subpel_conv3x3(2 * N, M, 2),
            )

        self.g_a = nn.Sequential(
            ResidualBlockWithStride(3, 2 * N, 2),
            *stage(0),
            ResidualBlockWithStride(2 * N, 2 * N, 2),
            *stage(1),
            ResidualBlockWithStride(2 * N, 2 * N, 2),
            *stage(2),
            conv3x3(2 * N, M, stride=2),
        )
        self.g_s = nn.Sequential(
            ResidualBlockUpsample(M, 2 * N, 2),
            *stage(3),
            ResidualBlockUpsample(2 * N, 2 * N, 2),
            *stage(4),
            ResidualBlockUpsample(2 * N, 2 * N, 2),
            *stage(5),
            subpel_conv3x3(2 * N, 3, 2),
        )
        if use_auxt:
            self.g_a = AuxTTransform(
                self.g_a, build_wls_branch(N, M), compute_analysis_aux_positions(self.config)
            )
            self.g_s = AuxTTransform(
                self.g_s, build_iwls_branch(N, M), compute_synthesis_aux_positions(self.config)
            )
        self.latent_codec = build_slice_hyperprior(
            z_channels=hyper_channels,
            h_a=nn.Sequential(
                ResidualBlockWithStride(M, 2 * N, 2),
                *hyper_stage(0),
                conv3x3(2 * N, hyper_channels, stride=2),
            ),
            h_mean_s=hyper_synthesis(),
            h_scale_s=hyper_synthesis(),
            groups=equal_slices(M, num_slices),
            side_channels=M,
            widths=(224, 128),
            support_transform_factory=partial(
                SWAtten, head_dim=16, window_size=window_size, drop_path=0.0, inter_dim=128
            ),
            emit_mean_support="post",
            max_support_slices=max_support_slices,
        )
        self.add_auxiliary()

    @property
    def use_auxt(self) -> bool:
        """Whether the transforms have the wavelet branch of AuxT."""
        return isinstance(self.g_a, AuxTTransform)

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_tcm_state_dict`."""
        return convert_upstream_tcm_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        use_auxt = has_auxt_state(state_dict)
        if not use_auxt and any(key.startswith("g_a.transform.") for key in state_dict):
            raise ValueError(
                f"this state dict is not of {cls.__name__}: its transforms are those of a model "
                "with AuxT, 'g_a.transform.*', but it has no 'g_a.auxiliary_layers.*' beside them"
            )
        g_a, g_s = ("g_a.transform", "g_s.transform") if use_auxt else ("g_a", "g_s")
        N = entry_size(state_dict, f"{g_a}.0.conv1.weight", 0, cls) // 2
        M = entry_size(state_dict, "latent_codec.h_a.0.conv1.weight", 1, cls)
        stages = [
            *_stages(state_dict, g_a, ".conv2.weight"),
            *_stages(state_dict, g_s, ".subpel_conv.0.weight"),
        ]
        tables = [state_dict.get(f"{start}.{_TABLE}") for start, _ in stages]
        sizes = {
            "N": N,
            "M": M,
            "config": [count for _, count in stages],
            "head_dim": [N if t is None else N // t.size(1) for t in tables],
            "hyper_head_dim": N,
            "use_auxt": use_auxt,
        }
        if _CONTEXT_TABLE in state_dict:
            sizes["window_size"] = window_size(state_dict[_CONTEXT_TABLE])
        for first in ("h_a.1", "h_s.h_mean_s.1"):
            table = state_dict.get(f"latent_codec.{first}.{_TABLE}")
            if table is not None:
                sizes["hyper_window_size"] = window_size(table)
                sizes["hyper_head_dim"] = N // table.size(1)
        quantiles = "latent_codec.z.entropy_bottleneck.quantiles"
        return {
            **sizes,
            "hyper_channels": entry_size(state_dict, quantiles, 0, cls),
            **cls.infer_slices(state_dict, M),
        }


def _blocks(
    N: int, head_dim: int, window: int, drop_path_rates: Sequence[float]
) -> list[nn.Module]:
    """A stage: blocks whose windows stay and shift in turn."""
    return [
        ConvTransBlock(N, N, head_dim, window, rate, type="SW" if i % 2 else "W")
        for i, rate in enumerate(drop_path_rates)
    ]


def _check_stages(
    config: Sequence[int], head_dim: Sequence[int], N: int, hyper_head_dim: int
) -> None:
    if len(config) != 6 or min(config) < 0:
        raise ValueError(f"config must have six entries, none negative, got {config}")
    if len(head_dim) != 6:
        raise ValueError(f"head_dim must have six entries, got {head_dim}")
    for name, dim in (*(("head_dim", d) for d in head_dim), ("hyper_head_dim", hyper_head_dim)):
        if dim < 1 or N % dim:
            raise ValueError(f"{name} must divide N, got N={N}, {name}={dim}")


def _stages(
    state_dict: Mapping[str, Tensor], transform: str, resampler: str
) -> list[tuple[str, int]]:
    """Name of the first block and number of blocks of each stage of a transform.

    Stages lie between the resampling modules, whose names end with ``resampler``.
    """
    places = numbers_after(state_dict, f"{transform}.")
    limits = [i for i in places if f"{transform}.{i}{resampler}" in state_dict]
    if not limits or len(limits) != 3:
        raise ValueError(
            f"this state dict is not of TCM: {transform} has {len(limits)} stages in place of 3"
        )
    return [(f"{transform}.{a + 1}", b - a - 1) for a, b in pairwise((*limits, places[-1]))]


# -- weights of the authors' program ------------------------------------------------------------

_HEADS = {
    "cc_mean_transforms": "mean_cc",
    "cc_scale_transforms": "scale_cc",
    "atten_mean": "mean_support_transform",
    "atten_scale": "scale_support_transform",
    "mean_support_transforms": "mean_support_transform",
    "scale_support_transforms": "scale_support_transform",
}
_ROOTS = frozenset({*_HEADS, *COMMON_ROOTS, "AuxT_enc", "AuxT_dec"})
_BIAS_TABLE = ".msa.relative_position_params"
ATTENTION_RULES = (
    (r"\.msa\.relative_position_params$", ".msa.attn.relative_position_bias_table"),
    (r"\.msa\.embedding_layer\.", ".msa.attn.qkv."),
    (r"\.msa\.linear\.", ".msa.output_proj."),
    (r"\.ln([12])\.", r".norm\1."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.2\.", ".mlp.fc2."),
)
_RULES = (
    # The authors wrap each attention in a Sequential of one.
    (r"^((?:atten_(?:mean|scale)|(?:mean|scale)_support_transforms)\.\d+)\.0\.", r"\1."),
    *ATTENTION_RULES,
    *HYPER_RULES,
    *slice_rules(_HEADS),
)


_AUXT_RULES = (
    (r"^AuxT_enc\.", "g_a.auxiliary_layers."),
    (r"^AuxT_dec\.", "g_s.auxiliary_layers."),
    (r"^(g_[as]\.auxiliary_layers\.\d+)\.OLP\.", r"\1.olp."),
    (r"^(g_[as])\.(\d+)\.", r"\1.transform.\2."),
)


def _is_upstream_tcm_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' program."""
    names = (_BIAS_TABLE, ".msa.embedding_layer.", ".msa.linear.")
    return has_root(strip_wrapper(state_dict), _ROOTS) or any(
        name in key for key in state_dict for name in names
    )


def convert_upstream_tcm_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the TCM authors' program under the names of :class:`TCM`.

    The authors' attention has one linear layer behind it, ours has two: the first becomes the
    identity. The branch of AuxT goes into the transforms, and its wavelet kernels, which are
    constants here, are left out.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict.
    """
    state_dict = _rename_auxt(strip_wrapper(state_dict))
    return convert_attention(replicate(state_dict, "cc_mean_transforms"), _RULES)


def convert_attention(
    state_dict: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]
) -> dict[str, Tensor]:
    """Rename weights with the attention of the TCM authors' program, and fit those to ours.

    Args:
        state_dict: names to tensors, without a wrapper.
        rules: of the names, with :data:`ATTENTION_RULES` among them.

    Returns:
        New dict.
    """
    tables = {
        # (heads, 2 w - 1, 2 w - 1) becomes ((2 w - 1) ** 2, heads).
        key: value.permute(1, 2, 0).flatten(0, 1).contiguous()
        for key, value in state_dict.items()
        if key.endswith(_BIAS_TABLE)
    }
    converted = rename({**state_dict, **tables}, rules)
    for key, value in list(converted.items()):
        if key.endswith(".msa.output_proj.weight"):
            identity = torch.eye(value.size(-1), dtype=value.dtype, device=value.device)
            converted.setdefault(key.replace(".output_proj.", ".attn.proj."), identity)
        elif key.endswith(".msa.output_proj.bias"):
            converted.setdefault(
                key.replace(".output_proj.", ".attn.proj."), torch.zeros_like(value)
            )
    return converted


def _rename_auxt(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of an AuxT branch, if there is one, and no wavelet kernels, which never change."""
    if not has_auxt_state(state_dict):
        return state_dict
    weights = {
        key: value
        for key, value in state_dict.items()
        if not (is_auxt_wavelet_buffer_key(key) or is_auxt_upstream_wavelet_buffer_key(key))
    }
    return rename(weights, _AUXT_RULES)


# -- rows --------------------------------------------------------------------------------------

_SMALL = {
    "N": 16,
    "M": 32,
    "head_dim": (4, 8, 16, 16, 8, 4),
    "hyper_head_dim": 16,
    "hyper_channels": 24,
    "num_slices": 4,
    "max_support_slices": 2,
}


def _is_tcm(weights: Mapping[str, Tensor]) -> bool:
    transform = (
        "g_a.transform." if any(key.startswith("g_a.transform.") for key in weights) else "g_a."
    )
    return has_names(weights, f"{transform}0.conv1.") and has_names(
        weights, transform, ".trans_block."
    )


register_entry(
    ModelEntry(
        name="tcm",
        model=TCM,
        summary="Mixed transformer and convolution transforms, attended support",
        paper="Liu et al. 2023, Learned image compression with mixed transformer-CNN architectures",
        sizes=at_qualities((6, {"N": 64}), (7, {"N": 128})),
        losses={
            "mse": {
                quality: {"lmbda": value}
                for quality, value in enumerate(
                    (0.0025, 0.0035, 0.0067, 0.0130, 0.0250, 0.0500, 0.0500), start=1
                )
            }
        },
        extra="attn",
        small=_SMALL,
        source="tcm",
        detect=lambda weights: _is_tcm(weights) and not has_auxt_state(weights),
    )
)
register_entry(
    ModelEntry(
        name="tcm-auxt",
        model=TCM,
        summary="TCM with a linear wavelet branch beside each transform",
        paper="Li et al. 2025, On disentangled training for nonlinear transform in learned image "
        "compression",
        arguments={"use_auxt": True},
        sizes=at_qualities((6, {"N": 64})),
        losses={
            "mse": {q: {"lmbda": LAMBDAS["mse"][q - 1]} for q in range(1, 7)},
        },
        extra="attn",
        small={**_SMALL, "config": (1, 1, 1, 1, 1, 1)},
        source="tcm-auxt",
        detect=lambda weights: _is_tcm(weights) and has_auxt_state(weights),
    )
)
