# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checkpoints of the authors' programs as models of this library.

The names of weights are translated by the ``convert_upstream_*_state_dict`` functions of the
models; here are the files: read without running code in them, checked by coding an image, written
as self-describing checkpoints or installed for ``pretrained=True``.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compressai._files import atomic_write
from compressai._moved import old_names
from compressai._weight_files import read_weights
from compressai.checkpoint import save_checkpoint
from compressai.models._build import build_and_load, why_not
from compressai.models._state_dict import clean_state_dict
from compressai.models.base import ModelIdentity
from compressai.registry import ENTRIES, ModelEntry
from compressai.zoo.image import training_recipe
from compressai.zoo.weights import install_weights

__all__ = [
    "Conversion",
    "SelfCheck",
    "check_by_coding",
    "convert_checkpoint",
    "detect_source",
    "install",
    "other_lambda",
    "save",
    "smoke_image",
    "sources",
    "training_recipe",
]

__getattr__ = old_names(__name__)

_SMOKE_SIZE = 256


@dataclass(frozen=True)
class Conversion:
    """A converted model, and what became of each entry.

    Attributes:
        source: the program, one of :func:`sources`.
        architecture: name in the zoo.
        net: the model, in evaluation mode.
        names: for each name in the file its names here, several if every slice got a copy, none if
            the models do not need it.
        added: names here that the file has nothing for.
    """

    source: str
    architecture: str
    net: nn.Module
    names: Mapping[str, tuple[str, ...]]
    added: tuple[str, ...]

    @property
    def entries_written(self) -> int:
        """How many entries the conversion made; constant buffers of the model come on top."""
        return sum(map(len, self.names.values())) + len(self.added)

    def summary(self) -> dict[tuple[str, str], int]:
        """Renamings and how many entries each concerns, numbers of layers written as ``*``."""
        count: Counter[tuple[str, str]] = Counter()
        for old, ours in self.names.items():
            for new in ours or ("(left out)",):
                count[_changed_part(old, new)] += 1
        for new in self.added:
            count["(added)", re.sub(r"\d+", "*", new)] += 1
        return dict(sorted(count.items()))


@dataclass(frozen=True)
class SelfCheck:
    """What a model makes of :func:`smoke_image`.

    Attributes:
        psnr: of the decoded image, dB.
        y_bpp, z_bpp: ideal rate of latent and side information, bits per pixel.
        coded_bpp: rate of the strings.
    """

    psnr: float
    y_bpp: float
    z_bpp: float
    coded_bpp: float


def sources() -> dict[str, ModelEntry]:
    """The rows whose authors' checkpoints can be converted, by the name of the authors' program."""
    return {entry.source: entry for entry in ENTRIES.values() if entry.source}


def detect_source(state_dict: Mapping[str, Tensor]) -> str:
    """Tell the program that weights are of.

    Args:
        state_dict: weights under the authors' names or under ours.

    Returns:
        One of :func:`sources`.

    Raises:
        ValueError: they are of none.
    """

    known = sources()
    for source, entry in known.items():
        if entry.detect is not None and entry.detect(state_dict):
            return source
    raise ValueError(
        f"these weights are of none of {', '.join(known)}: they have the names "
        f"{sorted(state_dict)[:5]} ..."
    )


def convert_checkpoint(path: str | os.PathLike[str], source: str | None = None) -> Conversion:
    """Read a checkpoint of an authors' program and build the model that it is of.

    Args:
        path: ``.pth``, ``.pth.tar`` or ``.safetensors`` file: a state dict, or a training
            checkpoint that holds one.
        source: one of :func:`sources`; ``None`` to find out.

    Returns:
        The model, all sizes inferred, and how entries were renamed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read safely, or entries are missing or left over; the
            message lists them.
    """
    path = Path(path)
    known = sources()
    if source is not None and source not in known:
        raise ValueError(f"source must be one of {list(known)}, got {source!r}")
    content = read_weights(path).content
    try:
        weights = clean_state_dict(content)
        source = source or detect_source(weights)
        entry = known[source]
        cls = entry.model
        net = build_and_load(cls.from_state_dict, weights)
        names, added = _trace(cls.convert, weights)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} cannot be converted: {why_not(error)}") from error
    net.identity = ModelIdentity(entry.name)
    return Conversion(source, entry.name, net.eval(), names, added)


# Fills that converters add are 0 or 1.
_FIRST_MARK = 2


def _trace(
    convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    weights: Mapping[str, Tensor],
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """Where each entry goes, by converting numbered entries of one element each."""
    marked = {
        key: torch.full((1,) * value.dim(), mark, dtype=torch.int64)
        for mark, (key, value) in enumerate(weights.items(), start=_FIRST_MARK)
    }
    places: dict[int, list[str]] = {}
    for key, value in convert(marked).items():
        places.setdefault(int(value.reshape(-1)[0]), []).append(key)
    names = {
        key: tuple(places.get(mark, ())) for mark, key in enumerate(weights, start=_FIRST_MARK)
    }
    added = [key for mark, keys in places.items() if mark < _FIRST_MARK for key in keys]
    return names, tuple(added)


def _changed_part(old: str, new: str) -> tuple[str, str]:
    """Two names without the end that they share, numbers as ``*``."""
    if old == new:
        first = old.partition(".")[0]
        return first, first
    left, right = old.split("."), new.split(".")
    while len(left) > 1 and len(right) > 1 and left[-1] == right[-1]:
        left.pop()
        right.pop()
    old, new = (re.sub(r"\d+", "*", ".".join(parts)) for parts in (left, right))
    return old, new


def smoke_image(size: int = _SMOKE_SIZE) -> Tensor:
    """A colourful image of waves, ``(1, 3, size, size)`` in [0, 1]."""
    u = torch.linspace(0, 1, size)[None, :].expand(size, size)
    v = u.T
    channels = (torch.sin(8 * u), torch.sin(8 * v), torch.cos(8 * (u + v)))
    return (0.5 + 0.3 * torch.stack(channels)).clamp(0, 1)[None]


def check_by_coding(net: nn.Module, size: int = _SMOKE_SIZE) -> SelfCheck:
    """Compress and decompress :func:`smoke_image`.

    Args:
        net: the model, in evaluation mode.
        size: side of the image.

    Returns:
        Quality and rate.

    Raises:
        RuntimeError: the decoded image is not what the model computes without coding.
    """
    x = smoke_image(size).to(next(net.parameters()).device)
    pixels = x.size(2) * x.size(3)
    with torch.no_grad():
        out = net(x)
    expected = out["x_hat"].clamp(0, 1)
    coded = net.compress(x)
    decoded = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    if not torch.allclose(decoded, expected, atol=1e-4):
        raise RuntimeError(
            "the decoded image differs from the forward pass by up to "
            f"{float((decoded - expected).abs().max()):.3g}"
        )
    mse = float((decoded - x).double().square().mean())
    bits = {
        name: float(-likelihood.double().log2().sum())
        for name, likelihood in out["likelihoods"].items()
    }
    return SelfCheck(
        psnr=-10 * math.log10(mse) if mse else math.inf,
        y_bpp=bits["y"] / pixels,
        z_bpp=bits["z"] / pixels,
        coded_bpp=8 * sum(len(s) for step in coded["strings"] for s in step) / pixels,
    )


# The authors' programs write the weight of the distortion into names of files, as in
# "tcm_0.0483_best.pth.tar" or "lambda0.013.pth".
_NUMBER = re.compile(r"(?<![\d.])\d*\.\d+")


def other_lambda(name: str, architecture: str, quality: int, metric: str = "mse") -> str:
    """What speaks against a quality in the name of a checkpoint.

    Args:
        name: of the file.
        architecture, quality, metric: what the weights are to be.

    Returns:
        A sentence if the name has the lambda of another quality, or numbers below 1 of which none
        is that of this one; nothing if it has no such numbers, or no lambda is known.

    Raises:
        ValueError: there is no such quality or metric.
    """
    wanted = training_recipe(architecture, quality, metric)
    told = [float(number) for number in _NUMBER.findall(name)]
    if not wanted or not told or any(_close(one, v) for one in told for v in wanted.values()):
        return ""
    recipes = ENTRIES[architecture].losses.get(metric, {})
    others = [
        str(other)
        for other, recipe in recipes.items()
        if any(_close(one, value) for one in told for value in recipe.values())
    ]
    if not others and not any(0 < one < 1 for one in told):
        # Rather a version.
        return ""
    recipe_text = ", ".join(f"{key} {value:g}" for key, value in wanted.items())
    return (
        f"the name {name} says {', '.join(f'{one:g}' for one in told)}, but quality {quality} of "
        f"{architecture} is {recipe_text}"
        + (f": that is quality {' or '.join(others)}" if others else "")
    )


def _close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-3)


def save(
    conversion: Conversion,
    path: str | os.PathLike[str],
    *,
    quality: int | None = None,
    metric: str = "mse",
    replace: bool = True,
) -> None:
    """Write a converted model.

    Args:
        conversion: what to write.
        path: with suffix ``.safetensors``, a checkpoint that :func:`compressai.load` opens without
            being told more; otherwise a state dict for :func:`torch.load`. Missing folders are
            made.
        quality: rate point of the zoo that the weights are of, kept in the checkpoint.
        metric: what they were trained for.
        replace: whether the file is replaced if it exists.

    Raises:
        FileExistsError: the file exists and is not to be replaced.
        ValueError: unknown quality or metric.
    """
    path = Path(path)
    recipe = {} if quality is None else training_recipe(conversion.architecture, quality, metric)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_checkpoint(
            path,
            conversion.net,
            architecture=conversion.architecture,
            arguments={},
            lmbda=recipe.get("lmbda"),
            metric=metric,
            extra={"converted_from": conversion.source, "quality": quality},
            replace=replace,
        )
        return
    with atomic_write(path, replace=replace) as unfinished:
        torch.save(conversion.net.state_dict(), unfinished)


def install(
    conversion: Conversion, quality: int, metric: str = "mse", *, overwrite: bool = False
) -> Path:
    """Put a converted model where ``pretrained=True`` of the zoo finds it.

    Args:
        conversion: the model.
        quality: rate point of the zoo that the weights are of.
        metric: what they were trained for.
        overwrite: replace other weights of this rate point.

    Returns:
        Path of the file.

    Raises:
        ValueError: unknown quality or metric, or weights of another size than this quality has.
        FileExistsError: there are other weights.
    """
    architecture, net = conversion.architecture, conversion.net
    training_recipe(architecture, quality, metric)
    for name, wanted in ENTRIES[architecture].at(quality).items():
        found = getattr(net, name, wanted)
        if found != wanted:
            raise ValueError(
                f"weights with {name}={found} are not of quality {quality} of {architecture}, "
                f"which has {name}={wanted}"
            )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        save(conversion, path, quality=quality, metric=metric)
        return install_weights(
            path.read_bytes(), architecture, metric, quality, overwrite=overwrite
        )
