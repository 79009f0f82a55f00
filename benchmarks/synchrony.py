# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Does every arithmetic decode the same latent, and what does that cost?

Codes photos in the default setting, plainly and with ``sync_safe``, and decodes them with other
arithmetic: one and two threads, without oneDNN, in channels-last layout, in double precision, and
with uniform noise of half the tolerance on the output of every network of the entropy path. Prints
how many streams do not give the encoder's latent, how far the outputs of networks were apart, and
the cost in bytes, time (of the processor, one thread) and PSNR. Ends with an error if a stream of
``sync_safe`` is not decoded alike, or something costs more than it may.

    pip install scikit-image scikit-learn
    python examples/evaluation_photos.py photos
    python benchmarks/synchrony.py --photos photos [--train FOLDER --fits FOLDER --minutes 5]

Models are ``lite:QUALITY`` with the weights that ship, ``tcm`` and ``elic2022-official`` with
entropy models that are trained here (see ``_fitted.py``) unless ``--fits`` has them from an earlier
run, and ``NAME=FILE`` with the weights of a checkpoint, whatever the model.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from _fitted import FITTED, fitted
from _report import PHOTO, alternate, machine, summary, threads
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

import compressai
from compressai.entropy_models.scan import ScanCoder
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE, SLOPE, on_networks
from compressai.models.base import coding_networks
from compressai.zoo import lite

MODELS = ("lite:1", "lite:2", "lite:3", "lite:4", *FITTED)
# What synchrony may cost: more bytes, more time, PSNR in dB.
LIMITS = {"bytes": 0.01, "time": 1.1, "psnr": 0.02}


def build(model: str, args: argparse.Namespace) -> nn.Module:
    """A model by its name on the command line."""
    if "=" in model:
        net = compressai.load(model.partition("=")[2]).eval()
        net.update()
        return net
    name, _, quality = model.partition(":")
    if name == "lite":
        return lite(int(quality or 1), pretrained=True).eval()
    if name not in FITTED:
        raise SystemExit(f"--models: {model!r} is none of {', '.join(MODELS)} or NAME=FILE")
    images = [x for _, x in photos(args.train or args.photos, tuple(args.size))]
    with threads(1):
        return fitted(name, images, args.minutes, args.fits / f"fitted_{name}.safetensors")


def photos(paths: list[Path], size: tuple[int, int]) -> Iterator[tuple[str, Tensor]]:
    """Photos, cut to at most ``size`` and to multiples of 64."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
                continue
            with Image.open(file) as opened:
                image = opened.convert("RGB")
            ratio = max(size[0] / image.height, size[1] / image.width)
            if ratio < 1:
                sides = (round(image.width * ratio), round(image.height * ratio))
                image = image.resize(sides, Image.Resampling.LANCZOS)
            x = to_tensor(image)[None, :, : size[0], : size[1]]
            height, width = (side // 64 * 64 for side in x.shape[2:])
            if height and width:
                yield file.name, x[:, :, :height, :width].contiguous()


@contextmanager
def on_outputs(net: nn.Module, change: Callable[[str, Tensor], Tensor]) -> Iterator[None]:
    """Let a function change what the networks of the entropy path give that decoders run.

    Args:
        net: the model.
        change: from ``"module"`` or ``"scan"`` (a network that is run position by position) and an
            output to what is used in its place.
    """
    encoder_only = {module for name, module in net.named_modules() if name.endswith("h_a")}
    networks = [each for each in coding_networks(net) if each not in encoder_only]
    network = ScanCoder.network
    with (
        on_networks(networks, lambda output: change("module", output)),
        patch.object(
            ScanCoder, "network", lambda self, output: change("scan", network(self, output))
        ),
    ):
        yield


@contextmanager
def noise(net: nn.Module, amplitude: float, seed: int = 0) -> Iterator[Counter[str]]:
    """Uniform noise on the output of every network of the entropy path when something is decoded.

    Args:
        net: the model.
        amplitude: of the noise.
        seed: of the noise.

    Yields:
        How often it was added, by ``"module"`` and ``"scan"``.
    """
    generator = torch.Generator().manual_seed(seed)
    added: Counter[str] = Counter()

    def add(where: str, output: Tensor) -> Tensor:
        added[where] += 1
        random = torch.rand(output.shape, generator=generator, dtype=output.dtype)
        return output + amplitude * (2 * random - 1)

    with on_outputs(net, add):
        yield added


@contextmanager
def recorded(net: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of the networks of the entropy path of a model, as they come."""
    outputs: list[Tensor] = []

    def keep(_where: str, output: Tensor) -> Tensor:
        outputs.append(output.float())
        return output

    with on_outputs(net, keep):
        yield outputs


@contextmanager
def without_onednn() -> Iterator[None]:
    with warnings.catch_warnings():
        # torch 2.14 warns so whenever oneDNN is turned off.
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


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
            "as encoded": (plain, nullcontext),
            "1 thread": (plain, lambda: threads(1)),
            "2 threads": (plain, lambda: threads(2)),
            "oneDNN disabled": (plain, without_onednn),
            "channels-last": (last, nullcontext),
            "double precision": (double, nullcontext),
            "noise": (plain, lambda: noise(plain, 0.5 * tolerance)),
        }

    def check(
        self, coded: dict[str, Any], want: list[Tensor] | None = None, **options: Any
    ) -> dict[str, Fate]:
        """How each decoder fares.

        Args:
            coded: what ``compress`` gave.
            want: outputs of the encoder's networks, to compare those of the decoders with.
            options: of ``decompress``.
        """
        return {name: self._check(name, coded, want, options) for name in self.settings}

    def _check(
        self, name: str, coded: dict[str, Any], want: list[Tensor] | None, options: dict[str, Any]
    ) -> Fate:
        net, setting = self.settings[name]
        with setting(), recorded(net) as outputs:
            try:
                y_hat = net.decompress(coded["strings"], coded["shape"], **options)["y_hat"]
            except ValueError:
                return Fate("lost")
        apart = 0.0 if want is None else max(map(deviation, outputs, want))
        y_hat, y = y_hat.to(coded["y_hat"].dtype), coded["y_hat"]
        if torch.equal(y_hat, y):
            return Fate("same", apart)
        return Fate("close" if torch.allclose(y_hat, y, atol=0.01) else "lost", apart)


class Fate(NamedTuple):
    """How a stream decodes: ``"same"``, ``"close"`` (within 0.01) or ``"lost"``."""

    verdict: str
    deviation: float = 0.0


def deviation(a: Tensor, b: Tensor) -> float:
    """How far outputs of networks are apart, in the unit of the tolerance."""
    return float(((a - b).abs() / (1 + SLOPE * b.abs())).max())


def size_of(coded: dict[str, Any]) -> int:
    return sum(len(string) for step in coded["strings"] for string in step)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def measure(
    model: str, images: list[tuple[str, Tensor]], args: argparse.Namespace
) -> dict[str, Any]:
    """Figures of one model."""
    net, tolerance = build(model, args), args.tolerance
    decoders = Decoders(net, tolerance)
    safe = {"sync_safe": True, "tolerance": tolerance}
    first = one_call(lambda: net.compress(images[0][1], **safe))
    second = one_call(lambda: net.compress(images[0][1], **safe))
    rows, ratios = [], {"compress": [], "decompress": []}
    for name, x in images:
        with recorded(net) as outputs:
            coded = {"safe": net.compress(x, **safe)}
        coded["plain"] = net.compress(x)
        fates = {
            "plain": decoders.check(coded["plain"]),
            "safe": decoders.check(coded["safe"], outputs, sync_safe=True),
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
        with threads(1):
            # Plain streams of TCM that were encoded with two threads do not decode with one.
            for mode, options in (("plain", {}), ("safe", safe)):
                timed = net.compress(x, **options)
                sides[mode] = timed["strings"], timed["shape"]
            seconds = alternate(
                {
                    "plain": lambda x=x: net.compress(x),
                    "safe": lambda x=x: net.compress(x, **safe),
                    "plain decompress": lambda s=sides: net.decompress(*s["plain"]),
                    "safe decompress": lambda s=sides: net.decompress(*s["safe"], sync_safe=True),
                },
                args.repeats,
                clock=time.process_time,
            )
        for task, suffix in (("compress", ""), ("decompress", " decompress")):
            pairs = zip(seconds[f"safe{suffix}"], seconds[f"plain{suffix}"])
            ratios[task] += [a / b for a, b in pairs]
    return {
        "model": model,
        "tolerance": tolerance,
        "photos": rows,
        "bpp": statistics.mean(row["bpp"] for row in rows),
        "bytes": statistics.mean(row["bytes"] for row in rows),
        "psnr": statistics.mean(row["psnr"] for row in rows),
        "time": {task: summary(values) for task, values in ratios.items() if values},
        "first_call": first - second,
    }


def one_call(function: Callable[[], object]) -> float:
    """Seconds of the processor that one call takes, with one thread."""
    with threads(1):
        start = time.process_time()
        function()
        return time.process_time() - start


def within_limits(result: dict[str, Any]) -> bool:
    """Whether every stream was decoded and nothing costs more than it may."""
    return (
        all(f.verdict == "same" for row in result["photos"] for f in row["fates"]["safe"].values())
        and result["bytes"] <= LIMITS["bytes"]
        and abs(result["psnr"]) <= LIMITS["psnr"]
        and all(figures["median"] <= LIMITS["time"] for figures in result["time"].values())
    )


def beyond_limits(results: list[dict[str, Any]]) -> str:
    """Names of the models that are."""
    return ", ".join(result["model"] for result in results if not within_limits(result))


def show(results: list[dict[str, Any]]) -> None:
    """Print the figures of all models as tables in Markdown."""
    names = [result["model"] for result in results]
    settings = results[0]["photos"][0]["fates"]["safe"]
    print(f"\n| decoded with | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for setting in settings:
        print(f"| {setting} | {' | '.join(_fates(result, setting) for result in results)} |")
    print("\n| | bits per pixel | bytes | PSNR | compress | decompress | first call |")
    print("|---|---|---|---|---|---|---|")
    for result in results:
        times = [f"{figures['median']:.3f} x" for figures in result["time"].values()]
        print(
            f"| {result['model']} | {result['bpp']:.3f} | {result['bytes']:+.2%} | "
            f"{result['psnr']:+.3f} dB | {' | '.join(times)} | {result['first_call']:+.2f} s |"
        )
    print(f"\nTolerance {results[0]['tolerance']:g}, {len(results[0]['photos'])} photos. ", end="")
    failed = beyond_limits(results)
    print(f"Beyond the limits: {failed}." if failed else "All within the limits.")


def _fates(result: dict[str, Any], setting: str) -> str:
    fates = {mode: [row["fates"][mode][setting] for row in result["photos"]] for mode in MODES}
    same, plain = ([f.verdict for f in fates[mode]].count("same") for mode in MODES)
    lost = [f.verdict for f in fates["plain"]].count("lost")
    apart = max(f.deviation for f in fates["safe"])
    return f"{same}/{len(fates['safe'])} (plain {plain}, {lost} lost; {apart:.0e})"


MODES = ("safe", "plain")


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", default=MODELS)
    add("--photos", nargs="+", type=Path, default=[PHOTO], help="files or folders")
    add("--train", nargs="+", type=Path, help="photos to train on; those of --photos without it")
    add("--fits", type=Path, default=Path("fits"), help="folder of what was trained")
    add("--minutes", type=float, default=5, help="of training, for each model that needs it")
    add("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    add("--repeats", type=int, default=5)
    add("--tolerance", type=float, default=DEFAULT_TOLERANCE)
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "synchrony", "command": command, **machine()}))
    images = list(photos(args.photos, tuple(args.size)))
    results = []
    for model in args.models:
        results.append(measure(model, images, args))
        print(json.dumps(results[-1]), flush=True)
    show(results)
    if failed := beyond_limits(results):
        raise SystemExit(f"beyond the limits: {failed}")
    return results


if __name__ == "__main__":
    main()
