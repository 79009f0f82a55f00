# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image models by name and quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from compressai.models import (
    Cheng2020Anchor,
    Cheng2020AnchorCheckerboard,
    Cheng2020Attention,
    Elic2022Chandelier,
    Elic2022Official,
    FactorizedPrior,
    FactorizedPriorReLU,
    IntegerLite,
    JointAutoregressiveHierarchicalPriors,
    Lite,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.models.base import CompressionModel
from compressai.models.hpcm import HPCM, SIZES
from compressai.registry import MODELS
from compressai.zoo.channel_slice import (
    LAZY_MODELS,
    PUBLISHED_POINTS,
    LazyModel,
    converter_command,
)
from compressai.zoo.weights import (
    installed_weights,
    load_installed,
    load_into,
    load_weights,
    published_weights,
    weights_folder,
)

__all__ = [
    "bmshj2018_factorized",
    "bmshj2018_factorized_relu",
    "bmshj2018_hyperprior",
    "cca",
    "cheng2020_anchor",
    "cheng2020_anchor_checkerboard",
    "cheng2020_attn",
    "elic2022_chandelier",
    "elic2022_official",
    "hpcm_1b",
    "hpcm_base",
    "hpcm_large",
    "hpcm_phi",
    "lite",
    "lite_integer",
    "mbt2018",
    "mbt2018_mean",
    "stf",
    "stf_wacnn",
    "tcm",
    "training_recipe",
]

METRICS = ("mse", "ms-ssim")

# Lagrangian multipliers of the published weights, by quality.
LAMBDAS: Mapping[str, tuple[float, ...]] = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}

model_architectures: dict[str, type[CompressionModel] | LazyModel] = {
    "bmshj2018-factorized": FactorizedPrior,
    "bmshj2018-factorized-relu": FactorizedPriorReLU,
    "bmshj2018-hyperprior": ScaleHyperprior,
    "mbt2018-mean": MeanScaleHyperprior,
    "mbt2018": JointAutoregressiveHierarchicalPriors,
    "cheng2020-anchor": Cheng2020Anchor,
    "cheng2020-attn": Cheng2020Attention,
    "cheng2020-anchor-checkerboard": Cheng2020AnchorCheckerboard,
    "elic2022-official": Elic2022Official,
    "elic2022-chandelier": Elic2022Chandelier,
    "lite": Lite,
    "lite-integer": IntegerLite,
    **LAZY_MODELS,
    **{f"hpcm-{size}": HPCM for size in SIZES},
}


for _size in SIZES:
    MODELS.setdefault(f"hpcm-{_size}", HPCM)


def _steps(*sizes: tuple[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Constructor arguments by quality, from (last quality, arguments) in ascending order."""
    table: dict[int, tuple[int, ...]] = {}
    for last, arguments in sizes:
        for quality in range(len(table) + 1, last + 1):
            table[quality] = arguments
    return table


# Sizes N and M in order, or constructor arguments and weights of the loss by name.
cfgs: dict[str, Mapping[int, tuple[int, ...] | Mapping[str, Any]]] = {
    "bmshj2018-factorized": _steps((5, (128, 192)), (8, (192, 320))),
    "bmshj2018-factorized-relu": _steps((5, (128, 192)), (8, (192, 320))),
    "bmshj2018-hyperprior": _steps((5, (128, 192)), (8, (192, 320))),
    "mbt2018-mean": _steps((4, (128, 192)), (8, (192, 320))),
    "mbt2018": _steps((4, (192, 192)), (8, (192, 320))),
    "cheng2020-anchor": _steps((3, (128,)), (6, (192,))),
    "cheng2020-attn": _steps((3, (128,)), (6, (192,))),
    "cheng2020-anchor-checkerboard": _steps((3, (128,)), (6, (192,))),
    "elic2022-official": _steps((8, (192, 320))),
    "elic2022-chandelier": _steps((8, (192, 320))),
    "lite": {
        quality: {"lmbda": lmbda}
        for quality, lmbda in enumerate((0.0035, 0.009, 0.0225, 0.056), start=1)
    },
    **PUBLISHED_POINTS,
}
cfgs["lite-integer"] = cfgs["lite"]
# Of Phi and 1B one model each was published.
for _size, _qualities in {
    "base": range(1, 7),
    "large": range(1, 7),
    "phi": (4,),
    "1b": (6,),
}.items():
    cfgs[f"hpcm-{_size}"] = dict.fromkeys(_qualities, SIZES[_size])
# Their weights come with the library.
_SHIPPED = ("lite", "lite-integer")
# What of these is for the loss.
_LOSS_WEIGHTS = frozenset({"lmbda", "beta"})


def training_recipe(architecture: str, quality: int, metric: str = "mse") -> dict[str, float]:
    """Weights of the loss that the published models of a quality were trained with.

    Args:
        architecture: name in ``image_models``.
        quality: one of the architecture's.
        metric: ``"mse"`` or ``"ms-ssim"``.

    Returns:
        ``{"lmbda"}``, for CCA ``{"lmbda", "beta"}``; empty if nothing was published for the metric.

    Raises:
        ValueError: unknown ``architecture``, ``quality`` or ``metric``.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}")
    configuration = _configuration(architecture, quality)
    if isinstance(configuration, tuple):
        return {"lmbda": LAMBDAS[metric][quality - 1]}
    weights = {name: value for name, value in configuration.items() if name in _LOSS_WEIGHTS}
    if not weights:
        return {"lmbda": LAMBDAS[metric][quality - 1]}
    return weights if metric == "mse" else {}


def _configuration(architecture: str, quality: int) -> tuple[int, ...] | Mapping[str, Any]:
    if architecture not in model_architectures:
        raise ValueError(
            f"architecture must be one of {sorted(model_architectures)}, got {architecture!r}"
        )
    if quality not in cfgs[architecture]:
        raise ValueError(
            f"quality of {architecture} must be one of {list(cfgs[architecture])}, got {quality!r}"
        )
    return cfgs[architecture][quality]


def _sizes(architecture: str, quality: int | None) -> dict[str, Any]:
    """Constructor arguments of a quality; ``None`` stands for the defaults of the class."""
    if quality is None:
        return {}
    configuration = _configuration(architecture, quality)
    if isinstance(configuration, tuple):
        return dict(zip(("N", "M"), configuration))
    return {name: value for name, value in configuration.items() if name not in _LOSS_WEIGHTS}


@dataclass(frozen=True)
class ModelEntry:
    """What the zoo tells about an entry; :func:`entries` lists them.

    Attributes:
        name: name in ``image_models``.
        paper: authors, year and title.
        qualities: lowest and highest quality.
        metrics: what the model can be had for.
        published: whether weights were published under names that the library knows.
    """

    name: str
    paper: str
    qualities: tuple[int, int]
    metrics: tuple[str, ...]
    published: bool


_ENTRIES: dict[str, ModelEntry] = {}


def entries() -> Mapping[str, ModelEntry]:
    """The image models with their papers, by name."""
    return _ENTRIES


def _load_model(
    architecture: str,
    metric: str,
    quality: int | None,
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> CompressionModel:
    sizes = _sizes(architecture, quality)
    cls = model_architectures[architecture]
    if not pretrained:
        return cls(**{**sizes, **kwargs})
    if kwargs:
        raise TypeError(f"pretrained weights fix the architecture, {sorted(kwargs)} have no use")
    if architecture in _SHIPPED:
        weights = _shipped(architecture, metric, quality)
    elif architecture in LAZY_MODELS:
        weights = _installed(architecture, metric, quality)
    else:
        weights = load_weights(_file_name(architecture, metric, quality), progress)
    return load_into(cls.from_state_dict, weights)


def _file_name(architecture: str, metric: str, quality: int) -> str:
    files = published_weights().get(architecture, {}).get(metric, {})
    file_name = files.get(str(int(quality)))
    if file_name is None:
        raise RuntimeError(
            f"no weights were published for {architecture}, metric {metric}, quality {quality}; "
            "train some with examples/train.py and load them with compressai.load()"
        )
    return file_name


def _installed(architecture: str, metric: str, quality: int | None) -> Mapping[str, Tensor]:
    """Weights that the converter put into the weights folder."""
    missing = "Pre-trained model not yet available"
    if quality is None:
        raise RuntimeError(
            f"{missing} without a quality: name one of {list(cfgs[architecture])}, which "
            f"{architecture} has weights for"
        )
    if installed_weights(architecture, metric, quality) is None:
        recipe = training_recipe(architecture, quality, metric)
        trained = ", ".join(f"{name} {value}" for name, value in recipe.items()) or metric
        raise RuntimeError(
            f"{missing}: get the checkpoint that the authors of {architecture} published "
            f"({trained}) and convert it with\n    "
            f"{converter_command(architecture, metric, quality)}\n"
            f"which puts it into {weights_folder()}, where it is looked for"
        )
    return load_installed(architecture, metric, quality)


def _shipped(architecture: str, metric: str, quality: int) -> Mapping[str, Tensor]:
    """Weights that come with the library."""
    if installed_weights(architecture, metric, quality) is None:
        advice = "train others with examples/train_lite.py"
        if architecture == "lite-integer":
            advice = (
                "train a lite and make integers of it with "
                "compressai.inference.quantize_entropy_path"
            )
        raise RuntimeError(
            f"no weights of {architecture}, metric {metric}, quality {quality} come with the "
            f"library: it has those of metric mse; {advice}"
        )
    weights = load_installed(architecture, metric, quality)
    if architecture == "lite-integer":  # whose files have only what is not in those of lite
        return {**load_installed("lite", metric, quality), **weights}
    return weights


def _path(model: type[CompressionModel] | LazyModel) -> str:
    """Where the documentation has a class."""
    module = model.__module__ if isinstance(model, LazyModel) else "compressai.models"
    return f"{module}.{model.__name__}"


def _entry(architecture: str, paper: str) -> Callable[..., CompressionModel]:
    """Make the zoo function of an architecture, and note it in :func:`entries`."""
    lowest, highest = min(cfgs[architecture]), max(cfgs[architecture])
    has_defaults = architecture in LAZY_MODELS
    name = architecture.replace("-", "_")
    levels = f"{lowest} (lowest) to {highest}"

    def build_checked(
        quality: int | None, metric: str, *args: Any, **kwargs: Any
    ) -> CompressionModel:
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}")
        if not (has_defaults if quality is None else lowest <= quality <= highest):
            raise ValueError(f"quality must be between {lowest} and {highest}, got {quality!r}")
        return _load_model(architecture, metric, quality, *args, **kwargs)

    def build(
        quality: int,
        metric: str = "mse",
        pretrained: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> CompressionModel:
        return build_checked(quality, metric, pretrained, progress, **kwargs)

    def build_any(
        quality: int | None = None,
        metric: str = "mse",
        pretrained: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> CompressionModel:
        return build_checked(quality, metric, pretrained, progress, **kwargs)

    if has_defaults:
        build = build_any
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{paper}

    Args:
        quality: {levels}{", or None for the defaults of the class" * has_defaults}.
        metric: distortion that the weights were trained for, ``"mse"`` or ``"ms-ssim"``.
        pretrained: load published weights, see :mod:`compressai.zoo.weights`.
        progress: show the progress of a download.
        kwargs: arguments of the model's class in place of those of the quality, such as ``N``.

    Returns:
        :class:`~{_path(model_architectures[architecture])}`.

    Raises:
        ValueError: unknown ``metric`` or ``quality``.
        RuntimeError: the weights are not available.
    """
    _ENTRIES[architecture] = ModelEntry(
        name=architecture,
        paper=paper,
        qualities=(lowest, highest),
        metrics=METRICS,
        published=architecture in published_weights() or architecture in _SHIPPED,
    )
    return build


bmshj2018_factorized = _entry(
    "bmshj2018-factorized",
    "Factorized prior. Ballé et al. 2018, Variational image compression with a scale hyperprior.",
)
bmshj2018_factorized_relu = _entry(
    "bmshj2018-factorized-relu",
    "Factorized prior with ReLU in place of GDN. Ballé et al. 2018, as above.",
)
bmshj2018_hyperprior = _entry(
    "bmshj2018-hyperprior",
    "Scale hyperprior. Ballé et al. 2018, Variational image compression with a scale hyperprior.",
)
mbt2018_mean = _entry(
    "mbt2018-mean",
    "Mean-scale hyperprior. Minnen et al. 2018, Joint autoregressive and hierarchical priors.",
)
mbt2018 = _entry(
    "mbt2018",
    "Hyperprior with autoregressive context. Minnen et al. 2018, Joint autoregressive and "
    "hierarchical priors.",
)
cheng2020_anchor = _entry(
    "cheng2020-anchor",
    "Residual transforms with autoregressive context. Cheng et al. 2020, Learned image compression "
    "with discretized Gaussian mixture likelihoods and attention modules.",
)
cheng2020_attn = _entry(
    "cheng2020-attn",
    "Residual and attention transforms with autoregressive context. Cheng et al. 2020, as above.",
)
cheng2020_anchor_checkerboard = _entry(
    "cheng2020-anchor-checkerboard",
    "Residual transforms with checkerboard context. He et al. 2021, Checkerboard context model.",
)
elic2022_official = _entry(
    "elic2022-official",
    "Uneven groups of channels with space-channel context. He et al. 2022, ELIC.",
)
elic2022_chandelier = _entry(
    "elic2022-chandelier",
    "ELIC in the lighter variant by Chandelier. He et al. 2022, ELIC.",
)
lite = _entry(
    "lite",
    "Small channel-slice model; its weights come with the library. Slices: Minnen and Singh 2020, "
    "Channel-wise autoregressive entropy models for learned image compression.",
)
lite_integer = _entry(
    "lite-integer",
    "lite with an entropy path of integers, whose files decode to the same latent on every "
    "machine. Integers: Ballé et al. 2019, Integer networks for data compression with "
    "latent-variable models.",
)
stf = _entry(
    "stf",
    "Window transformers as transforms. Zou et al. 2022, The devil is in the "
    "details: window-based attention for image compression.",
)
stf_wacnn = _entry(
    "stf-wacnn",
    "Convolutional transforms with window attention. Zou et al. 2022, as above.",
)
tcm = _entry(
    "tcm",
    "Mixed transformer and convolution transforms, attended support. Liu et al. 2023, Learned "
    "image compression with mixed transformer-CNN architectures.",
)
cca = _entry(
    "cca",
    "NAF transforms, uneven slices. Han et al. 2024, Causal context adjustment loss for learned "
    "image compression.",
)
hpcm_base = _entry(
    "hpcm-base",
    "Latent in eleven steps over three grids. Li et al. 2025, Learned image compression with "
    "hierarchical progressive context modeling.",
)
hpcm_large = _entry("hpcm-large", "HPCM with more blocks. Li et al. 2025, as above.")
hpcm_phi = _entry("hpcm-phi", "HPCM without attention. Li et al. 2025, as above.")
hpcm_1b = _entry("hpcm-1b", "HPCM with 1000 million parameters. Li et al. 2025, as above.")
