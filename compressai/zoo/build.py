# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From a row to a model: the one loader, and the zoo's functions as views of the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

import compressai.models  # noqa: F401  (fills the rows)
from compressai.models.base import CompressionModel, ModelIdentity
from compressai.registry import ENTRIES, METRICS, EntryView, ModelEntry
from compressai.zoo import weights

__all__ = [
    "converter_command",
    "entry_of",
    "image_models",
    "load_model",
    "models",
    "video_models",
    "zoo_function",
]

Builder = Callable[..., CompressionModel]


def entry_of(name: str, among: Mapping[str, Any] = ENTRIES) -> ModelEntry:
    """The row of a name.

    Args:
        name: of the model.
        among: names to choose from.

    Raises:
        ValueError: there is no such name.
    """
    if name not in among:
        raise ValueError(f"architecture must be one of {sorted(among)}, got {name!r}")
    return ENTRIES[name]


def zoo_function(module: str, name: str, among: Mapping[str, Any]) -> Builder:
    """The zoo function of a name, for the ``__getattr__`` of a module.

    Raises:
        AttributeError: there is none.
    """
    for known in among:
        if known in ENTRIES and ENTRIES[known].function == name:
            return models[known]
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def load_model(
    entry: ModelEntry,
    metric: str,
    quality: int | None,
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> CompressionModel:
    """Build the model of a row, which then knows its name, and load weights if asked to.

    Args:
        entry: the row.
        metric: distortion that the weights were trained for.
        quality: whose size and weights.
        pretrained: load weights; see :mod:`compressai.zoo.weights`.
        progress: show the progress of a download.
        kwargs: arguments of the class in place of those of the quality.

    Raises:
        ValueError: unknown ``metric`` or ``quality``.
        TypeError: ``kwargs`` with weights.
        RuntimeError: the weights are not available.
    """
    if metric not in entry.metrics:
        raise ValueError(f"metric must be one of {list(entry.metrics)}, got {metric!r}")
    # Of models of variable rate all qualities are one model.
    arguments = dict(entry.arguments) if entry.variable_rate else entry.at(quality)
    point = _point(entry, quality)
    if not pretrained:
        net = entry.model(**{**arguments, **kwargs})
        net.identity = ModelIdentity(entry.name)
        return _with_multiplier(net, entry, metric, quality, point)
    if kwargs:
        raise TypeError(f"pretrained weights fix the architecture, {sorted(kwargs)} have no use")
    loaded, digits = _weights_of(entry, metric, quality, progress)
    net = weights.load_into(_maker(entry, arguments), loaded)
    rate = None if entry.variable_rate else quality
    net.identity = ModelIdentity(entry.name, rate, metric, weights=digits)
    return _with_multiplier(net, entry, metric, quality, point)


def _maker(entry: ModelEntry, arguments: Mapping[str, Any]) -> Builder:
    """Builds the model of weights; where the class cannot read sizes off them, of these sizes."""

    def make(state_dict: Mapping[str, Tensor]) -> CompressionModel:
        if hasattr(entry.model, "from_state_dict"):
            with contextlib.suppress(NotImplementedError):
                return entry.model.from_state_dict(state_dict)
        net = entry.model(**arguments)
        net.load_state_dict(state_dict)
        return net

    return make


def _point(entry: ModelEntry, quality: int | None) -> float | None:
    """The number on the scale of a model that a quality of the zoo function stands for."""
    if not entry.points or quality is None:
        return None
    if quality not in entry.points:
        told = ", ".join(f"{key} ({value:g})" for key, value in entry.points.items())
        raise ValueError(
            f"quality must be one of {told}, which stand for numbers on the scale of "
            f"{entry.name}, got {quality!r}; others are given to compress and decompress"
        )
    return float(entry.points[quality])


def _with_multiplier(
    net: CompressionModel,
    entry: ModelEntry,
    metric: str,
    quality: int | None,
    point: float | None,
) -> CompressionModel:
    """Note rate and weight of the distortion where that of the rate is one, if they are known."""
    if point is not None:
        net.default_quality = point
    recipe = entry.losses.get(metric, {}).get(quality, {})
    if "lmbda" in recipe and not entry.variable_rate:
        net.lmbda = recipe["lmbda"] / recipe.get("beta", 1)
    return net


def _weights_of(
    entry: ModelEntry, metric: str, quality: int | None, progress: bool
) -> tuple[Mapping[str, Tensor], str]:
    """Weights, and the digits of the hash in the name of their file."""
    name = weights.published_file(entry.name, metric, quality)
    path = None
    if quality is not None or entry.variable_rate:
        path = weights.installed_weights(entry.name, metric, quality)
    # Files were coded with what was published where that is here: then it is not replaced.
    if name is not None and (path is None or (weights.weights_folder() / name).is_file()):
        return weights.load_weights(name, progress), weights.hash_digits(name)
    if path is None:
        raise RuntimeError(_where_from(entry, metric, quality))
    loaded = weights.load_installed(entry.name, metric, quality)
    if entry.completes:
        loaded = {**weights.load_installed(entry.completes, metric, quality), **loaded}
    return loaded, weights.hash_digits(path.name)


def _where_from(entry: ModelEntry, metric: str, quality: int | None) -> str:
    """What to do for weights that are not there."""
    which = f"{entry.name}, metric {metric}, quality {quality}"
    if entry.shipped:
        return (
            f"no weights of {which} come with the library: it has those of metric mse; "
            f"{entry.advice}"
        )
    if entry.source:
        missing = "Pre-trained model not yet available"
        if quality is None:
            return (
                f"{missing} without a quality: name one of {list(entry.sizes)}, which "
                f"{entry.name} has weights for"
            )
        recipe = entry.losses.get(metric, {}).get(quality, {})
        trained = ", ".join(f"{name} {value}" for name, value in recipe.items()) or metric
        return (
            f"{missing}: get the checkpoint that the authors of {entry.name} published "
            f"({trained}) and convert it with\n    {converter_command(entry, metric, quality)}\n"
            f"which puts it into {weights.weights_folder()}, where it is looked for"
        )
    return (
        f"no weights were published for {which}; "
        "train some with examples/train.py and load them with compressai.load()"
    )


def converter_command(entry: ModelEntry, metric: str, quality: int) -> str:
    """What to type to make an authors' checkpoint known to the zoo."""
    return (
        f"compressai convert --from {entry.source} --install --quality {quality} "
        f"--metric {metric} CHECKPOINT"
    )


# -- the zoo's functions ------------------------------------------------------------------------


def _builder(entry: ModelEntry) -> Builder:
    """The zoo function of a row: quality first, required only where the row says so."""

    def build(
        quality: int | None,
        metric: str = METRICS[0],
        pretrained: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> CompressionModel:
        if entry.variable_rate and not entry.points:
            quality = None
        return load_model(entry, metric, quality, pretrained, progress, **kwargs)

    defaults = build.__defaults__ or ()
    qualities = "{} (lowest) to {}".format(*entry.qualities)
    if entry.points:
        build.__defaults__ = (None, *defaults)
        points = ", ".join(f"{key} for {value:g}" for key, value in entry.points.items())
        qualities = (
            f"which number on the scale of the model is its ``default_quality``, {points}; others "
            "are given to ``compress`` and ``decompress``, and None leaves that of the class"
        )
    elif entry.variable_rate:
        build.__defaults__ = (0, *defaults)
        qualities = (
            "without effect, for calls that suit all models: the rate is chosen at each "
            "``compress``"
        )
    elif not entry.needs_quality:
        build.__defaults__ = (None, *defaults)
        qualities += ", or None for the defaults of the class"
    metrics = " or ".join(f'``"{metric}"``' for metric in entry.metrics)
    build.__name__ = build.__qualname__ = entry.function
    build.__doc__ = f"""{entry.text}

    Args:
        quality: {qualities}.
        metric: distortion that the weights were trained for, {metrics}.
        pretrained: load published weights, see :mod:`compressai.zoo.weights`.
        progress: show the progress of a download.
        kwargs: arguments of the model's class in place of those of the quality, such as ``N``.

    Returns:
        :class:`~{entry.model.__module__}.{entry.model.__qualname__}`.

    Raises:
        ValueError: unknown ``metric`` or ``quality``.
        RuntimeError: the weights are not available.
    """
    return build


models: EntryView[Builder] = EntryView(
    lambda entry: entry.in_zoo, _builder, first=lambda entry: not entry.video
)
"""All functions, those for images first."""
image_models: EntryView[Builder] = EntryView(
    lambda entry: entry.in_zoo and not entry.video, lambda entry: models[entry.name]
)
video_models: EntryView[Builder] = EntryView(
    lambda entry: entry.in_zoo and entry.video, lambda entry: models[entry.name]
)
