# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The exact preparation of the analysis: in every model, size and thread, the bits of the model."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from slice_nets import small_net
from tiny_nets import SIZES, one_thread, tiny_net
from torch import Tensor, nn

from compressai.inference import memory, prepare
from compressai.inference.blocked import block_runs
from compressai.inference.exact import ExactConv, make_exact
from compressai.inference.folding import fold
from compressai.inference.windows import WindowedBlocks, window_order
from compressai.layers import (
    GDN,
    GDN1,
    AttentionBlock,
    ResidualBlock,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)
from compressai.layers.attn import ConvTransBlock, SwinTransformerBlock, WinNoShiftAttention
from compressai.models._helpers.naf import NAFBlock
from compressai.models.lite import Lite

LITE = {"N": 8, "M": 16, "widths": (8, 16), "depths": (1, 1), "context_widths": (8,)}
NETS = ("tcm", "stf", "wacnn", "cca", "elic2022-official", "mbt2018-mean", "lite")
# Sides of which some are odd multiples, some do not fit the windows of every stage, some are large
# enough for the convolutions of oneDNN; one batch, whose convolutions are all of oneDNN.
PICTURES = ((1, 64, 192), (1, 128, 320), (2, 64, 128))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module", params=NETS)
def net(request: pytest.FixtureRequest) -> nn.Module:
    if request.param == "lite":
        torch.manual_seed(0)
        return Lite(**LITE).eval()
    net = tiny_net(request.param) if request.param in SIZES else small_net(request.param)
    net.update()
    return net


def picture(net: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    batch, height, width = shape
    multiple = getattr(net, "downsampling_factor", 64)
    height, width = (side + -side % multiple for side in (height, width))
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", PICTURES, ids=str)
def test_latents_strings_and_decoded_latents_are_those_of_the_model(
    net: nn.Module, shape: tuple[int, int, int]
) -> None:
    prepared = prepare(net, "fp32")
    x = picture(net, shape)
    with torch.no_grad():
        y = net.g_a(x)
        before = x.clone()
        other = prepared.g_a(x)
    assert torch.equal(other, y)
    assert other.stride() == y.stride()
    assert torch.equal(x, before)
    assert prepared.compress(x)["strings"] == net.compress(x)["strings"]


def test_threads_share_a_prepared_model() -> None:
    net = small_net("tcm")
    prepared = prepare(net, "fp32")
    pictures = [picture(net, (1, 64, 64 * (1 + i % 3))) for i in range(8)]
    with torch.inference_mode():
        expected = [net.g_a(x) for x in pictures]

    def analyse(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return prepared.g_a(x)

    with ThreadPoolExecutor(8) as pool:
        assert all(map(torch.equal, pool.map(analyse, pictures), expected))


def blocks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    made = {
        "GDN": GDN(16),
        "inverse GDN": GDN(16, inverse=True),
        "GDN1": GDN1(16),
        "inverse GDN1": GDN1(16, inverse=True),
        "ResidualBlock": ResidualBlock(16, 16),
        "wider ResidualBlock": ResidualBlock(16, 24),
        "ResidualBlockWithStride": ResidualBlockWithStride(16, 24),
        "ResidualBlockWithStride without": ResidualBlockWithStride(16, 16, stride=1),
        "ResidualBottleneckBlock": ResidualBottleneckBlock(16, 16),
        "convolutions and bottlenecks": nn.Sequential(
            nn.Conv2d(16, 24, 5, stride=2, padding=2),
            ResidualBottleneckBlock(24, 24),
            ResidualBottleneckBlock(24, 20),
            nn.Conv2d(20, 12, 3, stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
        ),
        "PixelUnshuffle": nn.Sequential(nn.AdaptiveAvgPool2d((18, 12)), nn.PixelUnshuffle(3)),
        "AttentionBlock": AttentionBlock(16),
        "WinNoShiftAttention": WinNoShiftAttention(16, 4, 4, 0),
        "shifted WinNoShiftAttention": WinNoShiftAttention(16, 4, 4, 2, output_proj=False),
        "ConvTransBlock": ConvTransBlock(8, 8, 4, 4, 0.0),
        "shifted ConvTransBlock": ConvTransBlock(8, 8, 4, 8, 0.0, type="SW"),
        "NAFBlock": NAFBlock(16),
        "GELU": nn.Sequential(nn.Conv2d(16, 16, 3), nn.GELU()),
        "approximate GELU": nn.Sequential(nn.Conv2d(16, 16, 3), nn.GELU(approximate="tanh")),
        "ReLU": nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU()),
        "reflected": nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"), nn.ReLU()
        ),
        "same": nn.Sequential(nn.Conv2d(16, 16, 3, padding="same"), nn.ReLU()),
        "LeakyReLU": nn.Sequential(nn.Conv2d(16, 16, 3, 2), nn.LeakyReLU(0.3)),
    }
    for block in made.values():
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.3)
    return made


BLOCKS = tuple(blocks())


def assert_same_bits(name: str, x: Tensor) -> None:
    network = nn.Sequential(nn.Identity(), blocks()[name].eval()).requires_grad_(False)
    expected = network(x)
    exact = copy.deepcopy(network)
    before = x.clone()
    fold(exact)
    make_exact(exact)
    assert torch.equal(exact(x), expected)
    assert torch.equal(x, before)
    same = [type(m) for m in exact.modules()] == [type(m) for m in network.modules()]
    assert same == (name in ("approximate GELU", "reflected", "same"))


@pytest.mark.parametrize("shape", [(1, 48, 40), (1, 24, 16), (2, 24, 16), (1, 21, 18)], ids=str)
@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_gives_the_same_bits(name: str, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    assert_same_bits(name, torch.randn(batch, 16, height, width))


def test_blocks_give_the_same_bits_on_several_threads() -> None:
    # Torch has other 1x1 convolutions there than on one thread.
    torch.set_num_threads(2)
    for name in BLOCKS:
        assert_same_bits(name, torch.randn(1, 16, 48, 40))


def test_onednn_applies_the_activations_of_its_convolutions() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    conv = ExactConv(nn.Conv2d(16, 16, 3), nn.LeakyReLU()).requires_grad_(False)
    conv.activate_ = None
    conv(torch.rand(1, 16, 48, 40))
    with pytest.raises(TypeError):
        conv(torch.rand(1, 16, 8, 8))


def test_maps_stay_in_the_layout_of_onednn_where_all_convolutions_are_its_own() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    torch.set_num_threads(2)
    layers = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), ResidualBottleneckBlock(16, 16))
    layers.requires_grad_(False)
    x = torch.rand(1, 16, 64, 64)
    expected = layers(x)
    block_runs(layers)
    [run] = layers
    run.plain = None
    assert torch.equal(run(x), expected)
    with pytest.raises(TypeError):
        run(x[..., :8, :8])


@pytest.mark.parametrize("shifts", [(0,), (2,), (0, 2, 2, 0)], ids=str)
@pytest.mark.parametrize("size", [(4, 4), (8, 20), (12, 4), (10, 12)], ids=str)
def test_tokens_go_through_blocks_in_the_order_of_windows(
    shifts: tuple[int, ...], size: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(*(SwinTransformerBlock(16, 2, 4, shift) for shift in shifts))
    stack.eval().requires_grad_(False)
    x = torch.randn(2, *size, 16)
    before = x.clone()
    assert torch.equal(WindowedBlocks(list(stack))(x), stack(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["tcm", "wacnn"])
def test_empty_batches(name: str) -> None:
    net = small_net(name)
    x = torch.zeros(0, 3, net.downsampling_factor, net.downsampling_factor)
    fast = prepare(net, "fp32")
    with torch.no_grad():
        y = net.g_a(x)
        assert fast.g_a(x).shape == y.shape
        assert fast.g_s(y).shape == x.shape


def test_order_of_windows_is_a_permutation() -> None:
    order = window_order(2, 12, 8, (4, 4), 2)
    assert sum(order.tokens) == len(order.to_map) == 2 * 12 * 8
    assert torch.equal(order.to_windows[order.to_map.long()], torch.arange(192, dtype=torch.int32))
    assert order.tokens == (2 * 2 * 16, 2 * 2 * 16, 2 * 16, 2 * 16)


class Library:
    """Stands for the C library and keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def mallopt(self, parameter: int, value: int) -> None:
        self.calls.append((parameter, value))

    def malloc_trim(self, pad: int) -> None:
        self.calls.append((pad,))


@pytest.mark.parametrize("growth", [1 << 30, (1 << 30) + 1])
def test_memory_is_kept_as_long_as_anyone_is_inside(
    monkeypatch: pytest.MonkeyPatch, growth: int
) -> None:
    library = Library()
    sizes = iter([5000, 5000 + growth, 7000])
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    monkeypatch.setattr(memory, "_resident", lambda: next(sizes))
    monkeypatch.setattr(memory, "_least", 6000)
    monkeypatch.setattr(memory, "_MOST", 1 << 30)

    def fail() -> None:
        with memory.reused_memory():
            assert (-4, 0) in library.calls
            with memory.reused_memory():
                pass
            assert (0,) not in library.calls
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    trimmed = growth > 1 << 30
    assert library.calls.count((0,)) == trimmed
    assert memory._least == (7000 if trimmed else 5000)
    assert library.calls.index((-4, 65536)) > library.calls.index((-4, 0))


MEMORY = """
import resource, sys, torch
from compressai.inference import memory

memory._MOST = 1 << 30

def use(maps):
    with memory.reused_memory():
        [torch.ones(1 << 22) for _ in range(maps)]  # of 16 MB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

start = use(0)
kept = use(16) - start
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use(16)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
print(kept, faults, use(70) - start)
"""


def test_memory_stays_up_to_a_quarter_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 18}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    assert memory._most() == 1 << 28
    sizes["SC_PHYS_PAGES"] = 1 << 24
    assert memory._most() == 4 << 30


@pytest.mark.skipif(memory._glibc() is None, reason="needs glibc")
def test_memory_stays_up_to_a_limit() -> None:
    """In a process of its own: what others have freed is kept as well."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    kept, faults, left = map(int, run.stdout.split())
    assert kept >= 240
    assert faults < 10_000  # of 65,536 pages
    assert left < 100


def test_memory_is_left_alone_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._glibc.cache_clear()
    try:
        with memory.reused_memory():
            assert memory._users == 0
    finally:
        memory._glibc.cache_clear()
