# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Does every arithmetic decode the same latent, and what does that cost?

Codes photos in the default setting, plainly and with ``sync_safe``, and decodes them with other
arithmetic: one and two threads, without oneDNN, in channels-last layout, in double precision, and
with uniform noise of half the tolerance on the output of every network of the entropy path. Prints
how many streams do not give the encoder's latent, and the cost in bytes, time and PSNR.

    python benchmarks/synchrony.py [--models lite=FILE tcm elic2022-official ...]
        [--photos FILE_OR_FOLDER ...] [--size 512 768] [--repeats 5]

A model with ``=FILE`` has the weights of that checkpoint. The others have random weights that are
fitted to the first photo (see ``_fitted.py``): their rate means something, their PSNR does not.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from _fitted import fit
from _report import alternate, machine, summary
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

import compressai
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE
from compressai.models.lite import Lite
from compressai.models.tcm import TCM
from compressai.registry import MODELS
from compressai.zoo import image_models

PHOTO = Path(__file__).parents[1] / "examples" / "assets" / "chelsea.png"
NETWORKS = ("h_s", "h_mean_s", "h_scale_s", "entropy_parameters", "context_prediction")
SMALL_TCM = {"N": 64}


def build(model: str, x: Tensor) -> nn.Module:
    """A model by name, or by ``name=checkpoint``."""
    name, _, file = model.partition("=")
    if file:
        net = compressai.load(file).eval()
        net.update()
        return net
    torch.manual_seed(0)
    if name == "lite":
        net = Lite()
    elif name == "tcm":
        net = TCM(**SMALL_TCM)
    elif name in image_models:
        net = image_models[name](quality=4)
    else:
        net = MODELS[name]()
    net.eval()
    fit(net, x)
    return net


def photos(paths: list[Path], size: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Photos, cut to at most ``size`` and to multiples of 64."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
                continue
            with Image.open(file) as image:
                picture = image.convert("RGB")
            ratio = max(size[0] / picture.height, size[1] / picture.width)
            if ratio < 1:
                sides = (round(picture.width * ratio), round(picture.height * ratio))
                picture = picture.resize(sides, Image.Resampling.LANCZOS)
            x = to_tensor(picture)[None, :, : size[0], : size[1]]
            height, width = (side // 64 * 64 for side in x.shape[2:])
            if height and width:
                yield file.name, x[:, :, :height, :width].contiguous()


@contextmanager
def noise(net: nn.Module, amplitude: float) -> Iterator[None]:
    """Uniform noise on the output of every network of the entropy path."""
    generator = torch.Generator().manual_seed(0)

    def add(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        random = torch.rand(output.shape, generator=generator, dtype=output.dtype)
        return output + amplitude * (2 * random - 1)

    hooks = [
        module.register_forward_hook(add)
        for name, module in net.named_modules()
        if name.rpartition(".")[2] in (*NETWORKS, "lrp_transform")
        or name.rpartition(".")[0].endswith("channel_context")
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """That many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _NoSynthesis(nn.Module):
    """A new tensor, because the caller clamps it in place."""

    def forward(self, y: Tensor) -> Tensor:
        return y.clone()


class Decoders:
    """Decoders of one model that compute differently; without synthesis, which is not at issue."""

    def __init__(self, net: nn.Module, tolerance: float) -> None:
        synthesis, net.g_s = net.g_s, _NoSynthesis()
        plain, last = copy.deepcopy(net), copy.deepcopy(net)
        double = copy.deepcopy(net).double()
        net.g_s = synthesis
        last.to(memory_format=torch.channels_last)
        self.settings: dict[str, tuple[nn.Module, Callable[[], Any]]] = {
            "1 thread": (plain, lambda: threads(1)),
            "2 threads": (plain, lambda: threads(2)),
            "without oneDNN": (plain, lambda: torch.backends.mkldnn.flags(enabled=False)),
            "channels-last": (last, nullcontext),
            "double precision": (double, nullcontext),
            "noise": (plain, lambda: noise(plain, 0.5 * tolerance)),
        }

    def check(self, coded: dict[str, Any], **options: Any) -> dict[str, str]:
        """How each decoder fares: ``"same"``, ``"close"`` (within 0.01) or ``"lost"``."""
        return {name: self._check(name, coded, options) for name in self.settings}

    def _check(self, name: str, coded: dict[str, Any], options: dict[str, Any]) -> str:
        net, setting = self.settings[name]
        with setting():
            try:
                y_hat = net.decompress(coded["strings"], coded["shape"], **options)["y_hat"]
            except ValueError:
                return "lost"
        want = coded["y_hat"]
        if torch.equal(y_hat.to(want.dtype), want):
            return "same"
        return "close" if torch.allclose(y_hat.to(want.dtype), want, atol=0.01) else "lost"


def size_of(coded: dict[str, Any]) -> int:
    return sum(len(string) for step in coded["strings"] for string in step)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def measure(
    model: str, pictures: list[tuple[str, Tensor]], repeats: int, tolerance: float
) -> dict[str, Any]:
    """Figures of one model."""
    net = build(model, pictures[0][1])
    decoders = Decoders(net, tolerance)
    safe = {"sync_safe": True, "tolerance": tolerance}
    rows, ratios = [], {"compress": [], "decompress": []}
    for name, x in pictures:
        coded = {"plain": net.compress(x), "safe": net.compress(x, **safe)}
        fates = {
            "plain": decoders.check(coded["plain"]),
            "safe": decoders.check(coded["safe"], sync_safe=True),
        }
        sides = {mode: (c["strings"], c["shape"]) for mode, c in coded.items()}
        quality = {
            "plain": psnr(net.decompress(*sides["plain"])["x_hat"], x),
            "safe": psnr(net.decompress(*sides["safe"], sync_safe=True)["x_hat"], x),
        }
        rows.append(
            {
                "photo": name,
                "bpp": 8 * size_of(coded["plain"]) / x[0, 0].numel(),
                "bytes": size_of(coded["safe"]) / size_of(coded["plain"]) - 1,
                "psnr": quality["safe"] - quality["plain"],
                "fates": fates,
            }
        )
        seconds = alternate(
            {
                "plain": lambda x=x: net.compress(x),
                "safe": lambda x=x: net.compress(x, **safe),
                "plain decompress": lambda s=sides: net.decompress(*s["plain"]),
                "safe decompress": lambda s=sides: net.decompress(*s["safe"], sync_safe=True),
            },
            repeats,
        )
        for task, suffix in (("compress", ""), ("decompress", " decompress")):
            pairs = zip(seconds[f"safe{suffix}"], seconds[f"plain{suffix}"])
            ratios[task] += [a / b for a, b in pairs]
    return {
        "model": model,
        "tolerance": tolerance,
        "photos": rows,
        "bytes": statistics.mean(row["bytes"] for row in rows),
        "psnr": statistics.mean(row["psnr"] for row in rows),
        "time": {task: summary(values) for task, values in ratios.items() if values},
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures of a model as a table."""
    rows = result["photos"]
    print(f"{result['model']}, {len(rows)} photos, tolerance {result['tolerance']:g}")
    for setting in rows[0]["fates"]["safe"]:
        counts = {mode: [row["fates"][mode][setting] for row in rows] for mode in ("safe", "plain")}
        print(
            f"  {setting:18}sync-safe: {counts['safe'].count('same')}/{len(rows)} the same; plain: "
            f"{counts['plain'].count('same')} the same, {counts['plain'].count('close')} close, "
            f"{counts['plain'].count('lost')} lost"
        )
    times = "".join(
        f", {task} {figures['median']:.3f} x" for task, figures in result["time"].items()
    )
    bpp = statistics.mean(row["bpp"] for row in rows)
    print(f"  {bpp:.3f} bpp, bytes {result['bytes']:+.2%}, PSNR {result['psnr']:+.3f} dB{times}")


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["lite", "tcm", "elic2022-official"])
    parser.add_argument("--photos", nargs="+", type=Path, default=[PHOTO])
    parser.add_argument("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tolerance", type=float, default=DEFAULT_TOLERANCE)
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "synchrony", "command": command, **machine()}))
    pictures = list(photos(args.photos, tuple(args.size)))
    results = []
    for model in args.models:
        results.append(measure(model, pictures, args.repeats, args.tolerance))
        print(json.dumps(results[-1]))
        show(results[-1])
    return results


if __name__ == "__main__":
    main()
