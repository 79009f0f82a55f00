# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Prepared models in synchronised sessions: native networks, and every engine reads every other."""

from __future__ import annotations

import copy
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from slice_nets import SMALL, small_net
from tiny_nets import SIZES, tiny_net
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference import entropy_path, prepare
from compressai.inference.kernels import ExactConv
from compressai.models import MeanScaleHyperprior, get_scale_table
from compressai.models.base import coding_networks
from compressai.models.lite import RateGains
from compressai.models.utils import deconv
from compressai.registry import ENTRIES
from compressai.zoo import lite

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import engines

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(not _kernels.available(), reason="needs a processor with AVX2"),
]

EPSILON = 2.0**-24


@cache
def net_of(name: str) -> nn.Module:
    if name == "mbt2018-mean":
        # Wide enough for native code, its symbols not all zero.
        torch.manual_seed(0)
        net = MeanScaleHyperprior(32, 48).eval()
        with torch.no_grad():
            net.g_a[-1].weight.mul_(12)
        net.update(scale_table=get_scale_table(0.11, 16, 12))
        return net
    if name == "lite":
        return lite(1, pretrained=True).eval()
    if name in SIZES or name in SMALL:
        net = tiny_net(name) if name in SIZES else small_net(name)
    else:
        torch.manual_seed(0)
        net = ENTRIES[name].model(**{**ENTRIES[name].arguments, **ENTRIES[name].small}).eval()
    # Each engine would build tables of its own, with its own rounding.
    net.update()
    return net


def sample() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(1, 3, 16, 24, generator=generator)
    fine = torch.rand(1, 3, 128, 192, generator=generator)
    return 0.7 * coarse.repeat_interleave(8, 2).repeat_interleave(8, 3) + 0.3 * fine


def converted(net: nn.Module) -> list[nn.Module]:
    """The networks that have run on native code."""
    choices = [vars(network).get("forward") for network in coding_networks(net)]
    return [
        each._synchronised
        for each in choices
        if isinstance(getattr(each, "_synchronised", None), entropy_path.ConvertedNetwork)
    ]


SLOW = ("wacnn", "tcm", "dcae", "saaf", "tcm+auxt", "mlicpp", "mlicv2", "hpcm-base", "hpcm-1b")


@pytest.mark.parametrize(
    "name",
    [
        *("mbt2018-mean", "elic2022-official", "cca", "lite"),
        # Half a minute each.
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    ],
)
def test_every_engine_decodes_every_other_to_the_same_latent(name: str) -> None:
    net = net_of(name)
    nets = {engine: make(net) for engine, make in engines.ENGINES.items()}
    x, multiple = sample(), net.downsampling_factor
    x = F.pad(x, (0, -x.size(3) % multiple, 0, -x.size(2) % multiple), mode="replicate")
    same = engines.pairs(nets, [x])
    assert len(same) == 9
    assert set(same.values()) == {1}
    if name in ("mbt2018-mean", "lite"):
        assert converted(nets["native"])


def test_plain_sessions_keep_their_bits() -> None:
    net, fast = net_of("lite"), prepare(net_of("lite"), "fp32")
    x = sample()
    fast.compress(x, sync_safe=True)
    assert converted(fast)
    with torch.no_grad():
        y = net.g_a(x)
    networks = dict(zip(coding_networks(net), coding_networks(fast)))
    given: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {network: [] for network in networks}
    hooks = [
        network.register_forward_hook(
            lambda module, inputs, out: given[module].append((inputs[0].clone(), out.clone()))
        )
        for network in networks
    ]
    with torch.no_grad():
        strings, other = (
            one.latent_codec.compress(y, **one.encoder_gains(torch.tensor([22.0])))["strings"]
            for one in (net, fast)
        )
        assert other == strings
    for hook in hooks:
        hook.remove()
    assert all(calls for network, calls in given.items() if not isinstance(network, RateGains))
    for network, calls in given.items():
        for inputs, out in calls:
            assert torch.equal(networks[network](inputs), out)


def test_nothing_is_converted_before_it_is_needed() -> None:
    fast = prepare(net_of("mbt2018-mean"), "fp32")
    coded = fast.compress(sample())
    fast.decompress(coded["strings"], coded["shape"])
    assert not converted(fast)
    coded = fast.compress(sample(), sync_safe=True)
    assert len(converted(fast)) == 2  # h_a and h_s


def test_layers_of_1x1_that_give_few_channels_run_as_they_are() -> None:
    fast = prepare(net_of("lite"), "fp32")
    fast.compress(sample(), sync_safe=True)
    native = [source for each in converted(fast) for source in each._sources]
    coded = [network for network in coding_networks(fast) if not isinstance(network, RateGains)]
    kernels = {
        network: [tuple(c.kernel_size) for c in network.modules() if isinstance(c, nn.Conv2d)]
        for network in coded
    }
    # 80 to 32 channels and 32 to 32 in the first prediction of residuals.
    thin = [network for network, sizes in kernels.items() if sizes and set(sizes) == {(1, 1)}]
    assert len(thin) == 5
    assert not set(thin) & set(native)
    assert set(native) == {n for n, sizes in kernels.items() if (3, 3) in sizes}


def test_network_that_native_code_computes_otherwise_runs_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_kernels = entropy_path.use_kernels
    monkeypatch.setattr(
        entropy_path,
        "use_kernels",
        lambda network, leaf: nn.Sequential(use_kernels(network, leaf), nn.Threshold(0.0, 1e-3)),
    )
    net = net_of("mbt2018-mean")
    fast = prepare(net, "fp32")
    coded = fast.compress(sample(), sync_safe=True)
    assert not converted(fast)
    decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=True)
    assert torch.equal(decoded["y_hat"], coded["y_hat"])


def test_what_the_choice_has_computed_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Doubled(nn.Conv2d):
        runs = 0

        def forward(self, x: Tensor) -> Tensor:
            Doubled.runs += 1
            return 2 * super().forward(x)

    monkeypatch.setattr(entropy_path, "active_coder", object)
    monkeypatch.setattr(
        entropy_path, "use_kernels", lambda network, leaf: leaf(nn.Conv2d(32, 32, 3, padding=1))
    )
    network = Doubled(32, 32, 3, padding=1)
    chosen = entropy_path._with_choice(network.eval())
    x = torch.rand(1, 32, 4, 4)
    with torch.no_grad():
        results = [chosen(x) for _ in range(3)]
    assert Doubled.runs == 3
    assert all(torch.equal(result, network(x)) for result in results)


def test_prepared_model_notices_new_weights_in_synchrony() -> None:
    fast = prepare(copy.deepcopy(net_of("mbt2018-mean")), "fp32")
    coded = fast.compress(sample(), sync_safe=True)
    with torch.no_grad():
        fast.h_s[0].bias.add_(1)
    with pytest.raises(ValueError, match="call prepare"):
        fast.decompress(coded["strings"], coded["shape"], sync_safe=True)
    with pytest.raises(ValueError, match="call prepare"):
        fast.compress(sample(), sync_safe=True)


def _weights(kind: str, *shape: int) -> Tensor:
    """Weights and, with other numbers, inputs that make rounding as bad as it gets."""
    random = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
    if kind == "all positive":
        return random.abs()
    if kind == "differences":  # taps that cancel each other on smooth inputs
        return random - random.mean(dim=(-1, -2), keepdim=True)
    if kind == "unequal":  # channels of which a few decide
        return random * 10 ** torch.linspace(-4, 2, shape[1])[:, None, None]
    return random.sign()


def _most_rounding(layer: nn.Module, native: nn.Module, x: Tensor) -> float:
    """Of the sum of the magnitudes of all products."""
    with torch.no_grad():
        exact, bound = copy.deepcopy(layer).double(), copy.deepcopy(layer).double()
        bound.weight.abs_()
        bound.bias.abs_()
        apart = (native(x).double() - exact(x.double())).abs()
        return float((apart / bound(x.double().abs())).max())


@pytest.mark.parametrize("kind", ["all positive", "differences", "unequal", "signs"])
@pytest.mark.parametrize("inputs", [32, 88, 640])
@pytest.mark.parametrize("size", [1, 3, "transposed"])
def test_exact_convolutions_round_little_whatever_the_weights(
    size: Any, inputs: int, kind: str
) -> None:
    if size == "transposed":
        inputs = inputs // 16 * 16
        layer = deconv(inputs, 16).requires_grad_(False)
    else:
        layer = nn.Conv2d(inputs, 24, size, padding=size // 2).requires_grad_(False)
    layer.weight.copy_(_weights(kind, *layer.weight.shape))
    assert ExactConv.fits(layer)
    native = ExactConv(layer)
    smooth = F.interpolate(_weights(kind, 1, inputs, 4, 5), size=(16, 19), mode="bilinear")
    for x in (_weights(kind, 1, inputs, 16, 19), smooth, smooth + 100):
        assert _most_rounding(layer, native, x) < 16 * EPSILON


def test_convolutions_with_fewer_points_are_the_exact_ones() -> None:
    """The usual tiles round several times more: this is why there are others."""
    from compressai.inference.kernels import NativeConv

    layer = nn.Conv2d(128, 32, 3, padding=1).requires_grad_(False)
    x = _weights("signs", 1, 128, 16, 16)
    usual, exact = (_most_rounding(layer, make(layer), x) for make in (NativeConv, ExactConv))
    assert exact < usual / 2
    assert not ExactConv.fits(nn.Conv2d(32, 32, 5, padding=2))


def test_engines_are_compared_on_photos(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--models", "lite:2", "--size", "192", "256"]
    (result,) = engines.main(command)
    assert "| plain -> native | 1 of 1 |" in capsys.readouterr().out
    # A decoder's networks: hyper synthesis, five contexts, five corrections.
    assert len(result["deviations"]) == 11
    for share in result["deviations"].values():
        assert 0 < share["native"] <= max(0.25, share["plain"])
    for changes in (
        {"same": {**result["same"], "native -> plain": 0}},
        {"deviations": {"h_s": {"plain": 0.1, "native": 0.26}}},
    ):
        other = {**result, **changes}
        monkeypatch.setattr(engines, "measure", lambda *_, other=other: other)
        with pytest.raises(SystemExit, match=r"not as promised: .*lite:2"):
            engines.main(command)
