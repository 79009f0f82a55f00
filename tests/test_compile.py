# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Networks that compilers see whole: no graph breaks in transforms, hyper transforms and heads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
import torch
from slice_nets import small_net
from tiny_nets import SIZES, one_thread, tiny_net
from torch import Tensor, nn

from compressai.inference import prepare
from compressai.models import CompressionModel
from compressai.models.lite import Lite

# Models, and stages that are sure to be among those compiled, besides g_a, g_s, h_a and h_s.
HEADS = {
    "bmshj2018-hyperprior": set(),
    "mbt2018-mean": set(),
    "cheng2020-anchor-checkerboard": {"context_prediction", "entropy_parameters"},
    "elic2022-official": {"channel_context", "context_prediction", "entropy_parameters"},
    "stf": {"channel_context", "lrp_transform"},
    "wacnn": {"channel_context", "lrp_transform"},
    "tcm": {"channel_context", "lrp_transform"},
    "cca": {"channel_context", "lrp_transform"},
    "lite": {"channel_context", "lrp_transform"},
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.compiler.reset()
    with one_thread():
        yield


def net_of(name: str) -> CompressionModel:
    if name == "lite":
        torch.manual_seed(0)
        return Lite(N=8, M=24, details=8, widths=(8, 16), depths=(1, 1), context_widths=(8,)).eval()
    if name == "tcm":
        return small_net(name, config=(1,) * 6)
    return tiny_net(name) if name in SIZES else small_net(name)


def sample(net: CompressionModel) -> Tensor:
    side = getattr(net, "downsampling_factor", 64)
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))


def stage_of(name: str) -> str | None:
    """Which stage a module is, by its name in the model."""
    parent, _, last = name.rpartition(".")
    if last in ("h_a", "h_s", "context_prediction", "entropy_parameters", "lrp_transform"):
        return last
    return "channel_context" if parent.endswith("channel_context") else None


@contextlib.contextmanager
def inputs_of(modules: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, ...]]]:
    """What modules are called with inside."""
    inputs: dict[str, tuple[Tensor, ...]] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda module, args: inputs.update({name: args})

    hooks = [module.register_forward_pre_hook(keep(name)) for name, module in modules.items()]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("name", HEADS)
def test_networks_compile_without_graph_breaks(name: str) -> None:
    net = net_of(name)
    modules = {key: module for key, module in net.named_modules() if stage_of(key) is not None}
    with torch.no_grad():
        x = sample(net)
        with inputs_of(modules) as inputs:
            net(x)
        y = net.g_a(x)
        parts = {"g_a": (net.g_a, (x,)), "g_s": (net.g_s, (y,))}
        # Of each stage the one that runs last, which sees most slices.
        parts |= {stage_of(key): (modules[key], args) for key, args in inputs.items()}
        assert parts.keys() >= {"h_a", "h_s", *HEADS[name]}
        for part, (network, args) in parts.items():
            torch.compiler.reset()
            compiled = torch.compile(network, fullgraph=True, backend="eager")
            assert torch.equal(compiled(*args), network(*args)), part


def test_prepared_transforms_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = torch.compile
    compiled = []

    def spy(call: Callable[..., Tensor]) -> Callable[..., Tensor]:
        compiled.append(call)
        return compile_(call, fullgraph=True, backend="eager")

    monkeypatch.setattr(torch, "compile", spy)
    net = small_net("stf")
    x = sample(net)
    fast = prepare(net, "fp32", compile=True)
    assert len(compiled) == 2
    assert fast.preparation.compile
    torch.testing.assert_close(fast.g_a(x), net.g_a(x))


def test_compiled_model_codes_as_the_model_does() -> None:
    """With the compiler that prepare() takes."""
    net = tiny_net("bmshj2018-hyperprior")
    fast = prepare(net, "fp32", compile=True)
    coded = fast.compress(sample(net))
    expected = net.decompress(coded["strings"], coded["shape"])
    decoded = fast.decompress(coded["strings"], coded["shape"])
    assert torch.equal(decoded["y_hat"], expected["y_hat"])
    torch.testing.assert_close(decoded["x_hat"], expected["x_hat"])
