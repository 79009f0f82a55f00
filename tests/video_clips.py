# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A short clip of a real photo, and a video model whose strings are worth coding."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import torch

from compressai.models.video import ScaleSpaceFlow

__all__ = ["ARGUMENTS", "PHOTO", "ROOT", "clip", "load_example", "video_net"]

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "examples" / "assets" / "chelsea.png"
# Of the model: small, since what is tested does not depend on it.
ARGUMENTS = {"N": 8, "M": 16}


@cache
def load_example(name: str) -> ModuleType:
    """A script of ``examples/`` as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / f"examples/{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def clip(folder: Path, frames: int = 3, **options) -> Path:
    """Camera motion over the photo, as ``examples/make_clip.py`` makes it."""
    size = {"width": 96, "height": 80, **options}
    return load_example("make_clip").make_clip(PHOTO, folder, frames=frames, **size)


def video_net(seed: int = 0) -> ScaleSpaceFlow:
    """A model with tables whose latents are spread; fresh ones give values near zero only."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = ScaleSpaceFlow(**ARGUMENTS)
    with torch.no_grad():
        for encoder in (net.img_encoder, net.motion_encoder, net.res_encoder):
            for layer in encoder[::2]:
                layer.weight *= 3
    net.update()
    return net.eval()
