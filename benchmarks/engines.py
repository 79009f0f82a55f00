# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Do all pairs of engines agree on synchronised strings, and how far from exact are they?

Engines are the layers of torch (``plain``), the native code of prepared models (``native``), the
layers of torch in double precision (``float64``), and onnxruntime where a model can be written as a
bundle (``onnxruntime``). Each codes every photo with ``sync_safe``, and
each decodes the strings of each: latents must be those of the encoder, bit for bit. Networks of the
entropy path also get the inputs that coding gave them, and the largest deviation of ``plain`` and
``native`` from ``float64`` is printed, over ``tolerance * (1 + |v| / 2)``, so that 1 is the whole
tolerance.

Ends with an error if a latent is another, or native code is both beyond a quarter of the tolerance
and further off than the layers of torch.

    pip install scikit-image scikit-learn
    python examples/evaluation_photos.py photos
    python benchmarks/engines.py --photos photos [--models lite:1 tcm ...]

Models are those of ``benchmarks/synchrony.py``, and those of the zoo with random weights.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from _paths import build as zoo_model
from _report import PHOTO, machine
from synchrony import MODELS, build, deviation, photos
from torch import Tensor, nn

from compressai import _kernels
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE
from compressai.inference import export_bundle, prepare
from compressai.latent_codecs import LRPGaussianLatentCodec
from compressai.models import CompressionModel
from compressai.models.base import ModelIdentity, coding_networks
from compressai.runtime import Bundle, RuntimeModel
from compressai.zoo import image_models

# Beside these, onnxruntime.
ENGINES: dict[str, Callable[[Any], nn.Module]] = {
    "plain": copy.deepcopy,
    "native": lambda net: prepare(net, "fp32"),
    "float64": lambda net: copy.deepcopy(net).double(),
}


class _Same(nn.Module):
    """In place of the synthesis, which is not at issue. A new tensor: it is clamped in place."""

    def forward(self, y: Tensor) -> Tensor:
        return y.clone()


@contextmanager
def inputs_of(networks: list[nn.Module]) -> Iterator[dict[int, list[tuple[Any, ...]]]]:
    """What networks are given within, by their place in the list."""
    given: dict[int, list[tuple[Any, ...]]] = defaultdict(list)

    def keep(place: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            given[place].append(tuple(each.clone() for each in inputs))

        return hook

    hooks = [
        network.register_forward_pre_hook(keep(place)) for place, network in enumerate(networks)
    ]
    try:
        yield given
    finally:
        for hook in hooks:
            hook.remove()


def deviations(native: nn.Module, exact: nn.Module, x: Tensor) -> list[dict[str, Any]]:
    """Deviations from double precision of the networks that code a photo, as shares of the
    tolerance."""
    networks, twins = coding_networks(native), coding_networks(exact)
    names = {module: name for name, module in native.named_modules()}
    rows = []
    with inputs_of(networks) as given:
        native.compress(x, sync_safe=True)
    for place, calls in given.items():
        network, apart = networks[place], {"plain": 0.0, "native": 0.0}
        choice = vars(network).get("forward")
        converted = getattr(choice, "_synchronised", None)
        if converted is None or names[network].endswith("h_a"):
            continue  # not converted, or of encoders only
        outcome = _outcome(native, names[network])
        with torch.inference_mode():
            for inputs in calls:
                want = outcome(twins[place](*(each.double() for each in inputs)))
                # Out of a session, the network runs as it is.
                results = {"plain": network(*inputs), "native": converted(*inputs)}
                for engine, got in results.items():
                    share = deviation(outcome(got.double()), want) / DEFAULT_TOLERANCE
                    apart[engine] = max(apart[engine], share)
        rows.append({"network": names[network], **apart})
    return rows


def _outcome(net: nn.Module, name: str) -> Callable[[Tensor], Tensor]:
    """What becomes of a network's output before it is put on the grid."""
    codec = net.get_submodule(name.rpartition(".")[0])
    if isinstance(codec, LRPGaussianLatentCodec) and name.endswith("lrp_transform"):
        return lambda out: codec.lrp_scale * torch.tanh(out)
    return lambda out: out


def runtime(net: CompressionModel) -> RuntimeModel | None:
    """The model by onnxruntime; ``None`` if it cannot be written as a bundle."""
    if net.identity is None:
        # Of what is trained here; bundles tell one.
        net = copy.deepcopy(net)
        net.identity = ModelIdentity(type(net).__name__)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.caibundle"
        try:
            export_bundle(net, path)
        except (ImportError, ValueError) as reason:
            print(f"{type(net).__name__} is not coded by onnxruntime: {reason}", file=sys.stderr)
            return None
        return RuntimeModel(Bundle.read(path))


def pairs(nets: Mapping[str, Any], images: list[Tensor]) -> dict[str, int]:
    """For each encoder and decoder, how many images decode to the encoder's latent."""
    coded = {engine: [_coded(net, x) for x in images] for engine, net in nets.items()}
    # That of onnxruntime has none.
    shapes = [each["shape"] for each in coded["plain"]]
    return {
        f"{encoder} -> {decoder}": sum(
            _agrees(net, each, shape, x.shape[2:])
            for each, shape, x in zip(coded[encoder], shapes, images)
        )
        for encoder in nets
        for decoder, net in nets.items()
    }


def _coded(net: Any, x: Tensor) -> dict[str, Any]:
    """As ``compress`` of a model gives it."""
    if isinstance(net, RuntimeModel):
        out = net.compress(x.numpy())
        # Bundles begin with the side information, models of torch end with it.
        first, *others = ([string] for string in out["strings"])
        return {"strings": [*others, first], "y_hat": torch.from_numpy(out["y_hat"])}
    coded: dict[str, Any] = net.compress(x.to(next(net.parameters()).dtype), sync_safe=True)
    return coded


def _agrees(net: Any, coded: Mapping[str, Any], shape: Any, size: Sequence[int]) -> bool:
    try:
        if isinstance(net, RuntimeModel):
            *others, last = (strings[0] for strings in coded["strings"])
            y_hat = torch.from_numpy(net.decompress([last, *others], *size)["y_hat"])
        else:
            y_hat = net.decompress(coded["strings"], shape, sync_safe=True)["y_hat"]
    except ValueError:
        return False
    return torch.equal(y_hat.float(), coded["y_hat"].float())


def measure(name: str, images: list[Tensor], args: argparse.Namespace) -> dict[str, Any]:
    """Figures of one model."""
    known = name.partition(":")[0] in {model.partition(":")[0] for model in MODELS}
    net: Any = build(name, args) if known or "=" in name else zoo_model(name, 1)
    assert isinstance(net, CompressionModel)
    net.update()
    multiple = getattr(net, "downsampling_factor", 64)
    images = [
        x[:, :, : x.size(2) // multiple * multiple, : x.size(3) // multiple * multiple]
        for x in images
    ]
    nets = {engine: make(net) for engine, make in ENGINES.items()}
    largest: dict[str, dict[str, Any]] = {}
    for x in images:
        for row in deviations(nets["native"], nets["float64"], x):
            before = largest.setdefault(row["network"], {"plain": 0.0, "native": 0.0})
            for engine in before:
                before[engine] = max(before[engine], row[engine])
    bundled = runtime(net)
    for each in nets.values():
        # Beside what preparing for speed puts in front of the modules.
        vars(each).pop("g_s", None)
        each.g_s = _Same()
    return {
        "model": name,
        "photos": len(images),
        "same": pairs(nets if bundled is None else {**nets, "onnxruntime": bundled}, images),
        "deviations": largest,
    }


def problems(result: dict[str, Any]) -> list[str]:
    """What is not as promised."""
    return [
        *(pair for pair, count in result["same"].items() if count < result["photos"]),
        *(
            name
            for name, share in result["deviations"].items()
            if share["native"] > max(0.25, share["plain"])
        ),
    ]


def show(results: list[dict[str, Any]]) -> None:
    """Print the figures of all models as tables in Markdown."""
    print(f"\n| encoder -> decoder | {' | '.join(each['model'] for each in results)} |")
    print(f"|---|{'---|' * len(results)}")
    for pair in max((each["same"] for each in results), key=len):
        cells = (
            f"{each['same'][pair]} of {each['photos']}" if pair in each["same"] else ""
            for each in results
        )
        print(f"| {pair} | {' | '.join(cells)} |")
    print("\n| largest share of the tolerance | plain | native |\n|---|---|---|")
    for each in results:
        shares = list(each["deviations"].values())
        cells = (max((s[e] for s in shares), default=0.0) for e in ("plain", "native"))
        print(
            f"| {each['model']}, {len(shares)} networks | {' | '.join(f'{c:.2f}' for c in cells)} |"
        )


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", nargs="+", default=MODELS, help=f"also {', '.join(image_models)}")
    add("--photos", nargs="+", type=Path, default=[PHOTO], help="files or folders")
    add("--train", nargs="+", type=Path, help="photos to train on; those of --photos without it")
    add("--fits", type=Path, default=Path("fits"), help="folder of what was trained")
    add("--minutes", type=float, default=5, help="of training, for each model that needs it")
    add("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "engines", "command": command, **machine()}))
    if not _kernels.available():
        raise SystemExit("there is no native code for this processor")
    images = [x for _, x in photos(args.photos, tuple(args.size))]
    results = []
    for model in args.models:
        results.append(measure(model, images, args))
        print(json.dumps(results[-1]), flush=True)
    show(results)
    failed = {each["model"]: found for each in results if (found := problems(each))}
    if failed:
        raise SystemExit(f"not as promised: {failed}")
    return results


if __name__ == "__main__":
    main()
