# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make the files of this folder, as it was done once for version 1 of the format.

Files that are here are never made again: they must decode for ever. Add a line to ``CASES`` for
what is new, and run this from the root of the repository.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from compressai.bitstream import (
    LegacyPicture,
    decode_picture,
    encode_picture,
    read_picture,
    save_picture,
)
from compressai.checkpoint import save_checkpoint
from compressai.entropy_models import GaussianConditional
from compressai.models import get_scale_table
from compressai.ops import compute_padding
from compressai.registry import MODELS

__all__ = ["main"]

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "examples" / "assets" / "chelsea.png"
# A small scale table keeps the checkpoints small.
SCALES = get_scale_table(0.11, 8, 12)
SIZES = {
    "bmshj2018-factorized": {"N": 4, "M": 6},
    "mbt2018-mean": {"N": 4, "M": 4},
    "cheng2020-anchor-checkerboard": {"N": 4},
}
# Name of the file, model, colour mode, box of the photo.
CASES = (
    ("v1-factorized-rgb.cai", "bmshj2018-factorized", "RGB", (150, 90, 187, 113)),
    ("v1-mean-la.cai", "mbt2018-mean", "LA", (150, 90, 220, 103)),
    ("v1-checkerboard-rgba.cai", "cheng2020-anchor-checkerboard", "RGBA", (150, 90, 171, 160)),
    ("old-mean.bin", "mbt2018-mean", "RGB", (150, 90, 213, 121)),
)
# Decisions further than this from any edge come out the same on every machine.
MARGIN = 1e-3


def _make_net(model: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = MODELS[model](**SIZES[model]).eval()
    with torch.no_grad():
        _last_conv(net.g_a).weight.mul_(12)  # else all symbols are 0
        for module in net.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                module.bias.uniform_(0.2, 1)
    net.update(scale_table=SCALES)
    return net


def _last_conv(transform: nn.Module) -> nn.Module:
    return [module for module in transform.modules() if isinstance(module, nn.Conv2d)][-1]


class _Margin:
    """Smallest distance of the scales that a net meets from the limits of the tables, as logs."""

    def __init__(self, net: nn.Module) -> None:
        self.smallest = math.inf
        for module in net.modules():
            if isinstance(module, GaussianConditional):
                self._watch(module)

    def _watch(self, module: GaussianConditional) -> None:
        build_indexes = module.build_indexes

        def watched(scales: torch.Tensor) -> torch.Tensor:
            logs = scales.detach().clamp_min(1e-9).log().reshape(-1, 1)
            distance = float((logs - SCALES.log()).abs().min())
            self.smallest = min(self.smallest, distance)
            return build_indexes(scales)

        module.build_indexes = watched


def _picture(mode: str, box: tuple[int, int, int, int]) -> Image.Image:
    with Image.open(PHOTO) as photo:
        image = photo.convert("RGB").crop(box)
    if mode.startswith("L"):
        image = image.convert("L")
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def _code(net: nn.Module, model: str, image: Image.Image, old: bool):
    picture = read_picture(image)
    if not old:
        return encode_picture(net, picture, model=model)
    padding, _ = compute_padding(image.height, image.width, min_div=64)
    out = net.compress(nn.functional.pad(picture.pixels[None], padding))
    return LegacyPicture(
        model=model,
        metric="mse",
        quality=1,
        width=image.width,
        height=image.height,
        shape=tuple(out["shape"]),
        strings=tuple(step[0] for step in out["strings"]),
    )


def _make_cases(model: str, seed: int) -> bool:
    """Make the files of a model, if its decisions are safe with this seed."""
    net = _make_net(model, seed)
    margin = _Margin(net)
    made = []
    for name, owner, mode, box in CASES:
        if owner == model:
            coded = _code(net, model, _picture(mode, box), old=name.endswith(".bin"))
            made.append((HERE / name, coded, decode_picture(net, coded)))
    if margin.smallest < MARGIN:
        return False
    for module in net.modules():
        vars(module).pop("build_indexes", None)
    save_checkpoint(HERE / f"{model}.safetensors", net, architecture=model, arguments=SIZES[model])
    for path, coded, decoded in made:
        path.write_bytes(coded.to_bytes())
        save_picture(decoded, path.with_suffix(".png"))
        print(path.name, path.stat().st_size, "bytes, seed", seed, "margin", margin.smallest)
    return True


def main() -> None:
    for model in SIZES:
        if not (HERE / f"{model}.safetensors").exists():
            next(seed for seed in range(10_000) if _make_cases(model, seed))


if __name__ == "__main__":
    main()
