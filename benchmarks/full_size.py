# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Does a model of full size code photos of any size, in every mode, and decode what was coded?

For models without published weights: the weights are drawn, and the last layer of the analysis is
scaled so that most symbols are not 0. Each model

- codes each photo, cut to odd sides, by ``compressai encode`` and ``decode``, plainly and with
  ``--sync-safe`` (whose files hold a hash of the latent, which ``decode`` checks), and
- codes the photo, and a batch of three shifts of it, by ``compress``, with one and with two
  threads. ``decompress`` has to give the very latent with the same number of threads, and with the
  other number too if it is synchronised.

Prints a line for each and ends with an error if a latent is another one.

    pip install scikit-image scikit-learn
    python examples/evaluation_photos.py photos
    python benchmarks/full_size.py --models hpcm-base mambavc --photos photos/coffee.png
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from _report import PHOTO, machine, threads
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from compressai.checkpoint import save_checkpoint
from compressai.cli import main as compressai_main
from compressai.registry import ENTRIES
from compressai.zoo import image_models

MODELS = ("hpcm-base", "hpcm-large", "hpcm-phi", "hpcm-1b", "mambavc", "mambaic")
MODES: dict[str, dict[str, Any]] = {"plain": {}, "sync-safe": {"sync_safe": True}}
# Of what the last layer of the analysis gives.
_DEVIATION = 1.0


def build(name: str, x: Tensor, arguments: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A model with drawn weights whose latent of ``x`` is not all zeros, and what it is made by."""
    torch.manual_seed(0)
    quality, _ = ENTRIES[name].qualities
    arguments = {"quality": quality, **arguments}
    net = image_models[name](**arguments).eval()
    layers = [module for module in net.g_a.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        y = net.g_a(x)
        layers[-1].weight *= _DEVIATION / y.std()
        layers[-1].bias -= layers[-1].bias
    net.update()
    return net, arguments


def padded(image: Image.Image, multiple: int) -> Tensor:
    """``(1, 3, H, W)`` with sides that a model takes."""
    x = to_tensor(image)[None]
    pad = [-side % multiple for side in (x.shape[3], x.shape[2])]
    return nn.functional.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")


def by_program(
    net: nn.Module, name: str, arguments: dict[str, Any], image: Image.Image
) -> dict[str, Any]:
    """Bits per pixel of each mode; decoding has to give an image of the same size."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {key: Path(folder) / key for key in ("n.safetensors", "p.png", "p.cai", "q.png")}
        checkpoint, photo, coded, decoded = files.values()
        save_checkpoint(checkpoint, net, architecture=name, arguments=arguments)
        image.save(photo)
        for mode in MODES:
            options = ["--checkpoint", checkpoint, "--overwrite", "--precision", "fp32"]
            run("encode", photo, "-o", coded, f"--{mode}", *options)
            run("decode", coded, "-o", decoded, "--checkpoint", checkpoint, "--overwrite")
            with Image.open(decoded) as got:
                if got.size != image.size:
                    raise SystemExit(f"{name}: decoded {got.size}, coded {image.size}")
            area = image.width * image.height
            result[mode] = 8 * coded.stat().st_size / area
    return result


def run(*arguments: object) -> None:
    """Run the program in this process, without what it prints."""
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            compressai_main([str(argument) for argument in arguments])
    except SystemExit as stop:
        if stop.code:
            raise


def by_calls(net: nn.Module, x: Tensor) -> dict[str, Any]:
    """Which decodings of ``x`` give the latent that was coded, by mode and numbers of threads."""
    same: dict[str, bool] = {}
    for mode, arguments in MODES.items():
        for count in (1, 2):
            with threads(count):
                coded = net.compress(x, **arguments)
            for other in (1, 2) if arguments else (count,):
                with threads(other):
                    out = net.decompress(coded["strings"], coded["shape"], **arguments)
                same[f"{mode}, {count} and {other}"] = torch.equal(out["y_hat"], coded["y_hat"])
    return {"same": same, "not_zero": float((coded["y_hat"].abs() > 0.5).float().mean())}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", default=MODELS, choices=sorted(image_models))
    add("--photos", nargs="+", type=Path, default=[PHOTO], help="files")
    add("--size", nargs=2, type=int, default=(299, 451), metavar=("H", "W"), help="cut to it")
    add("--parts", nargs="+", default=["program", "one", "three"], help="of what is done")
    add("--legacy", action="store_true", help="the older generation of MLIC++")
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "full_size", "command": command, **machine()}), flush=True)
    failed = []
    for name in args.models:
        for path in args.photos:
            with Image.open(path) as opened:
                image = opened.convert("RGB").crop((0, 0, *args.size[::-1]))
            made_by = {"legacy": True} if args.legacy else {}
            net, made_by = build(name, padded(image, ENTRIES[name].multiple), made_by)
            x = padded(image, net.downsampling_factor)
            parts: dict[str, Callable[[], dict[str, Any]]] = {
                "program": lambda n=net, a=made_by, p=image, m=name: by_program(n, m, a, p),
                "one": lambda n=net, x=x: by_calls(n, x),
                "three": lambda n=net, x=x: by_calls(n, torch.cat([x, x.roll(9, 3), x.flip(2)])),
            }
            for part in args.parts:
                call = parts[part]
                start = time.perf_counter()
                row = {"model": name, "photo": path.name, "size": image.size[::-1], "part": part}
                row |= {**call(), "seconds": round(time.perf_counter() - start, 1)}
                print(json.dumps(row), flush=True)
                if not all(row.get("same", {}).values()):
                    failed.append(f"{name}, {part}")
    if failed:
        raise SystemExit(f"another latent: {'; '.join(failed)}")
    print("All latents are those that were coded.")


if __name__ == "__main__":
    main()
