# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How far attention on the entropy path is from exact arithmetic, however it is computed.

Networks of DCAE, SAAF, HPCM and the MLIC family with softmax (and normalisation) inside, in the
widths of their papers and on the latent of a photo of 512x768, get the same input in several
settings of float32 and in double precision. The figure is the largest ``|a - b| / (1 + |b| / 2)``,
in the unit of the tolerance of synchronised coding, 2e-5 by default. Weights are drawn; trained
attention is sharper, so the logits are also taken several times as large.

    python benchmarks/attention_deviation.py [--size 512 768] [--sharper 1 10 100]
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from _report import machine
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE, SLOPE
from compressai.layers.attn import MultiScaleDictionaryCrossAttentionGLU
from compressai.layers.hierarchical import WindowedCrossAttention
from compressai.models._helpers.mlic.context import (
    LinearGlobalInterContext,
    LinearGlobalIntraContext,
    LocalContext,
    VanillaGlobalInterContext,
)
from compressai.models._helpers.mlicv2 import ContextReweighting


class _Dictionary(nn.Module):
    """The attention of a slice of DCAE, and the dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = MultiScaleDictionaryCrossAttentionGLU(704, 320)
        self.dt = nn.Parameter(torch.randn(1, 128, 640))

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, self.dt)


def _layers(*names: str) -> Callable[[nn.Module], list[Tensor]]:
    return lambda network: [p for key, p in network.named_parameters() if key.startswith(names)]


# Each with channels of its inputs, and weights whose factor is that of the logits.
NETWORKS: dict[
    str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[[nn.Module], list[Tensor]]]
] = {
    "DCAE and SAAF, dictionary": (_Dictionary, (704,), _layers("attention.scale")),
    "HPCM, windows": (lambda: WindowedCrossAttention(640, 8), (640, 640), _layers("conv_q.")),
    "MLIC+, all positions": (
        lambda: VanillaGlobalInterContext(64, 64, 2),
        (64,),
        _layers("queries.1."),
    ),
    "MLIC++, earlier slices": (
        lambda: LinearGlobalInterContext(64, 64, 2),
        (64,),
        _layers("queries.1.", "keys.1."),
    ),
    "MLIC++, the slice before": (
        lambda: LinearGlobalIntraContext(32, 2),
        (32, 32),
        _layers("queries.1.", "keys.1."),
    ),
    "MLIC++, neighbours": (
        lambda: LocalContext(32),
        (32,),
        lambda network: [network.qkv_proj.weight[:32], network.qkv_proj.bias[:32]],
    ),
    "MLICv2, channels": (lambda: ContextReweighting(320), (320,), _layers("queries.")),
}


@contextmanager
def without_onednn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration on top of oneDNN")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


@contextmanager
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SETTINGS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "as it is": nullcontext,
    "2 threads": two_threads,
    "without oneDNN": without_onednn,
    "attention as matrices": lambda: sdpa_kernel(SDPBackend.MATH),
}


def measure(name: str, height: int, width: int, sharper: float) -> dict[str, object]:
    """Deviations of a network from double precision, by setting."""
    build, channels, scaled = NETWORKS[name]
    torch.manual_seed(0)
    network = build().eval()
    inputs = [torch.randn(1, count, height, width) for count in channels]
    with torch.no_grad():
        for weight in scaled(network):
            weight.mul_(sharper)
        exact = copy.deepcopy(network).double()(*(x.double() for x in inputs))
        apart = {}
        for setting, context in SETTINGS.items():
            with context():
                apart[setting] = _deviation(network(*inputs), exact)
        last = [x.contiguous(memory_format=torch.channels_last) for x in inputs]
        apart["channels-last"] = _deviation(network(*last), exact)
    return {"network": name, "sharper": sharper, "largest": float(exact.abs().max()), **apart}


def _deviation(got: Tensor, exact: Tensor) -> float:
    return float(((got.double() - exact).abs() / (1 + SLOPE * exact.abs())).max())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    parser.add_argument("--sharper", nargs="+", type=float, default=[1, 10, 100])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "attention_deviation", "command": command, **machine()}))
    for name in NETWORKS:
        for sharper in args.sharper:
            row = measure(name, args.size[0] // 16, args.size[1] // 16, sharper)
            print(json.dumps(row), flush=True)
    print(f"The tolerance is {DEFAULT_TOLERANCE:g} unless more is asked for.")


if __name__ == "__main__":
    main()
