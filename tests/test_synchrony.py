# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Synchronised coding: what one arithmetic codes, every other one decodes to the same latent."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from slice_nets import small_net
from tiny_nets import SIZES, tiny_net
from torch import Tensor, nn

from compressai import _CXX
from compressai.bitstream import DesyncError, ImageData, decode_image, encode_image
from compressai.entropy_models import GaussianConditional
from compressai.entropy_models._grid import sync_rows
from compressai.entropy_models._sync_stream import Exceptions, Rounding, StreamReader, StreamWriter
from compressai.entropy_models.synchrony import (
    DEFAULT_TOLERANCE,
    SLOPE,
    STEP,
    Gain,
    SyncDecoder,
    SyncEncoder,
)
from compressai.latent_codecs import GaussianConditionalLatentCodec
from compressai.models import (
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr,
    get_scale_table,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from synchrony import noise, threads

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # torch 2.14 warns so whenever oneDNN is turned off.
    pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN"),
]

SLICES = ("wacnn", "tcm", "cca")
# One has no hyperprior; the other's first level leaves two values of this latent.
HYPERPRIORS = sorted(SIZES.keys() - {"bmshj2018-factorized", "bmshj2018-hyperprior-vbr"})
AUTOREGRESSIVE = ("mbt2018", "cheng2020-anchor", "mbt2018-vbr")


@lru_cache(maxsize=1)
def _net(name: str) -> nn.Module:
    return small_net(name) if name in SLICES else tiny_net(name)


def _image(batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(batch, 3, 16, 24, generator=generator)
    fine = torch.rand(batch, 3, 128, 192, generator=generator)
    return 0.7 * coarse.repeat_interleave(8, 2).repeat_interleave(8, 3) + 0.3 * fine


def _decode(net: nn.Module, coded: dict) -> Tensor:
    return net.decompress(coded["strings"], coded["shape"], sync_safe=True)["y_hat"].float()


@pytest.mark.parametrize("name", [*HYPERPRIORS, *SLICES])
def test_every_arithmetic_decodes_to_the_same_latent(name: str) -> None:
    net = _net(name)
    coded = net.compress(_image(), sync_safe=True)
    want = coded["y_hat"]
    assert want.unique().numel() > 3
    assert torch.equal(_decode(net, coded), want)
    with noise(net, 0.5 * DEFAULT_TOLERANCE) as added:
        assert torch.equal(_decode(net, coded), want)
    positions = want[0, 0].numel() if name in AUTOREGRESSIVE else 0
    assert added["module"] > 0
    assert added["scan"] == 2 * positions  # context prediction and entropy parameters
    for count in (2, 1):
        with threads(count):
            assert torch.equal(_decode(net, coded), want)
    with torch.backends.mkldnn.flags(enabled=False):
        assert torch.equal(_decode(net, coded), want)
    other = copy.deepcopy(net).to(memory_format=torch.channels_last)
    assert torch.equal(_decode(other, coded), want)
    assert torch.equal(_decode(other.double(), coded), want)


def test_plain_coding_does_not_survive_larger_noise() -> None:
    """Or the test above would test nothing."""
    net = _net("elic2022-official")
    coded = net.compress(_image())
    with noise(net, 2.0**-6):
        try:
            decoded = net.decompress(coded["strings"], coded["shape"])["y_hat"]
        except ValueError:
            return
    assert not torch.allclose(decoded, coded["y_hat"], atol=0.1)


@pytest.mark.parametrize("name", ["mbt2018-mean", "wacnn"])
def test_batches_decode_item_by_item(name: str) -> None:
    net, x = _net(name), _image(batch=3)
    coded = net.compress(x, sync_safe=True)
    for i in range(3):
        one = {"strings": [[step[i]] for step in coded["strings"]], "shape": coded["shape"]}
        assert torch.equal(_decode(net, one), coded["y_hat"][i : i + 1])


@pytest.mark.parametrize("cls", [MeanScaleHyperpriorVbr, JointAutoregressiveHierarchicalPriorsVbr])
@pytest.mark.parametrize("rate", [{"s": 6}, {"stage": 1}], ids=str)
def test_variable_rates_are_coded_in_synchrony(cls: type[nn.Module], rate: dict) -> None:
    torch.manual_seed(0)
    net = cls(4, 6).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(12)
    net.update()
    coded = net.compress(_image(), sync_safe=True, **rate)
    with noise(net, 0.5 * DEFAULT_TOLERANCE):
        decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=True, **rate)
    assert torch.equal(decoded["y_hat"], coded["y_hat"])


def test_bytes_depend_on_weights_and_image_only() -> None:
    net, x = _net("mbt2018-mean"), _image()
    first = net.compress(x, sync_safe=True)["strings"]
    fresh = copy.deepcopy(net)
    fresh.compress(torch.rand(1, 3, 64, 64), sync_safe=True)
    assert fresh.compress(x, sync_safe=True)["strings"] == first


def test_changed_weights_are_probed_again() -> None:
    net = copy.deepcopy(_net("mbt2018-mean"))
    net.compress(_image(), sync_safe=True)
    before = net._sync_gains[2][0].values
    with torch.no_grad():
        net.h_s[-1].weight.mul_(4)
        net.h_s[-3].weight.mul_(16)
    net.compress(_image(), sync_safe=True)
    assert net._sync_gains[2][0].values is not before


def test_synthesis_does_not_see_the_grid() -> None:
    net, x = _net("cheng2020-anchor-checkerboard"), _image()
    coded = net.compress(x, sync_safe=True)
    decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=True)
    with torch.no_grad():
        coarse = net.g_s(decoded["y_hat"]).clamp(0, 1)
    assert (decoded["y_hat"] / STEP == (decoded["y_hat"] / STEP).round()).all()
    assert not torch.equal(coarse, decoded["x_hat"])


@pytest.mark.parametrize("name", ["mbt2018-mean", "mbt2018", "wacnn"])
def test_damaged_strings_are_value_errors_or_other_latents(name: str) -> None:
    net = _net(name)
    coded = net.compress(_image(), sync_safe=True)
    random = np.random.default_rng(0)
    string, *rest = coded["strings"]
    for _ in range(12):
        damaged = bytearray(string[0])
        damaged[random.integers(len(damaged))] ^= 1 << random.integers(8)
        broken = {**coded, "strings": [[bytes(damaged)], *rest]}
        try:
            decoded = _decode(net, broken)
        except ValueError:
            continue
        assert not torch.equal(decoded, coded["y_hat"])
    for end in (0, 8, len(string[0]) - 4):
        with pytest.raises(ValueError):
            _decode(net, {**coded, "strings": [[string[0][:end]], *rest]})


def test_files_beyond_the_tolerance_are_told_not_shown() -> None:
    net = _net("mbt2018-mean")
    coded = encode_image(net, ImageData(_image()[0]), model="mbt2018-mean")
    with noise(net, 0.5 * DEFAULT_TOLERANCE):
        decode_image(net, coded)
    for size in (2.0**-7, 2.0**-4, 1.0):
        with noise(net, size), pytest.raises(DesyncError, match="something else here"):
            decode_image(net, coded)


@pytest.mark.parametrize("name", ["wacnn", "mbt2018"])
def test_strings_beyond_the_tolerance_end_at_another_place_or_give_another_latent(
    name: str,
) -> None:
    net = _net(name)
    coded = net.compress(_image(), sync_safe=True)
    noticed = 0
    for seed in range(8):
        with noise(net, 0.25, seed=seed):
            try:
                decoded = _decode(net, coded)
            except ValueError:
                noticed += 1
                continue
        assert not torch.equal(decoded, coded["y_hat"])
    assert noticed >= 7


class _Foreign(GaussianConditionalLatentCodec):
    """Looks up rows itself, as codecs for CompressAI do."""

    def compress(self, y: Tensor, side_params: Tensor) -> dict:
        scales, means = self._chunk(self.entropy_parameters(side_params))
        rows = self.gaussian_conditional.build_indexes(scales)
        strings = self.gaussian_conditional.compress(y, rows, means)
        y_hat = self.gaussian_conditional.quantize(y, "dequantize", means)
        return {"strings": [strings], "shape": y.shape[2:], "y_hat": y_hat}


def test_codec_that_looks_up_rows_is_not_coded_plainly_where_synchrony_was_promised() -> None:
    net = tiny_net("elic2022-official")
    for module in net.modules():
        if type(module) is GaussianConditionalLatentCodec:
            module.__class__ = _Foreign
    plain = net.compress(_image())
    assert torch.equal(net.decompress(plain["strings"], plain["shape"])["y_hat"], plain["y_hat"])
    with pytest.raises(ValueError, match=r"must code by GaussianConditional\.code\(\) and decode"):
        net.compress(_image(), sync_safe=True)


def test_coding_turns_tf32_off_and_on_again() -> None:
    net, seen = _net("mbt2018-mean"), []
    cudnn = torch.backends.cudnn
    newer = hasattr(getattr(cudnn, "conv", None), "fp32_precision")

    def uses_tf32() -> bool:
        return cudnn.conv.fp32_precision != "ieee" if newer else cudnn.allow_tf32

    hook = net.h_s.register_forward_hook(lambda *_: seen.append(uses_tf32()))
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        net.compress(_image())
        assert not seen.pop()
        coded = net.compress(_image(), sync_safe=True)
        assert not seen.pop()
        _decode(net, coded)
        assert not seen.pop()
        with pytest.raises(ValueError):
            net.compress(_image(), sync_safe=True, tolerance=-1)
        assert torch.backends.cudnn.allow_tf32
    finally:
        hook.remove()
        torch.backends.cudnn.allow_tf32 = before


def test_synchronised_coding_leaves_the_precision_of_the_caller() -> None:
    """Torch refuses to read its older switches where the newer ones were used, and the reverse."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    if not hasattr(conv, "fp32_precision"):
        pytest.skip("this torch has the older switches only")
    before = torch.get_float32_matmul_precision(), conv.fp32_precision
    try:
        torch.set_float32_matmul_precision("medium")
        _net("mbt2018-mean").compress(_image(), sync_safe=True)
        assert torch.get_float32_matmul_precision() == "medium"
        conv.fp32_precision = "ieee"
        _net("mbt2018-mean").compress(_image(), sync_safe=True)
        assert conv.fp32_precision == "ieee"
    finally:
        conv.fp32_precision = before[1]
        torch.set_float32_matmul_precision(before[0])


@pytest.mark.parametrize("tolerance", [-1e-6, float("nan"), float("inf")])
def test_bad_tolerances_are_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        _net("mbt2018-mean").compress(_image(), sync_safe=True, tolerance=tolerance)


def test_latents_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        _net("mbt2018-mean").compress(_image() * float("nan"), sync_safe=True)


# -- the rounding itself ---------------------------------------------------------------------------


def _plan(
    scales: np.ndarray, values: np.ndarray, guard: float, **kwargs: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    guards = np.full(len(scales), guard, dtype=np.float32)
    return _CXX.plan_sync(scales, values, _levels(), STEP, guards, guards, SLOPE, **kwargs)


@lru_cache
def _levels() -> _CXX.ScaleLevels:
    return _CXX.ScaleLevels(get_scale_table().numpy())


def _round_scales(scales: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    return _CXX.round_scales(scales, _levels(), ranks)


def _round_values(values: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    return _CXX.round_values(values, STEP, ranks)


@pytest.mark.parametrize("guard", [1e-7, 1e-5, 1e-4, 3e-3, 0.02, 1.0])
def test_rounding_is_the_same_everywhere_within_the_guard(guard: float) -> None:
    random = np.random.default_rng(0)
    scales = random.lognormal(-1, 1.5, (16, 500)).astype(np.float32)
    values = random.normal(0, 5, (16, 500)).astype(np.float32)
    values[0] = STEP * (0.5 + np.arange(500))  # on thresholds
    scales[0, :64] = get_scale_table()
    ranks, *odd = _plan(scales, values, guard)
    for array, rounding, elements in (
        (scales, _round_scales, odd[0]),
        (values, _round_values, odd[1]),
    ):
        want = rounding(array, ranks)
        sure = np.ones(array.size, dtype=bool)
        sure[elements] = False
        assert guard > 1e-2 or sure.mean() > 0.8
        for share in (-0.999, 0.999, random.uniform(-1, 1, array.shape)):
            moved = array + share * guard * (1 + SLOPE * np.abs(array))
            got = rounding(moved.astype(np.float32), ranks)
            assert np.array_equal(got[sure], want[sure])


def test_rounding_moves_values_by_less_than_a_step() -> None:
    random = np.random.default_rng(1)
    values = random.normal(0, 5, (4, 4096)).astype(np.float32)
    scales = random.lognormal(-1, 1.5, (4, 4096)).astype(np.float32)
    ranks, _, _ = _plan(scales, values, 1e-4)
    assert len(ranks) > 1
    assert (np.abs(_round_values(values, ranks) * STEP - values.reshape(-1)) <= 0.75 * STEP).all()
    plain = np.searchsorted(get_scale_table().numpy()[:-1], scales.reshape(-1))
    assert (np.abs(_round_scales(scales, ranks) - plain) <= 1).all()
    none = np.zeros(1, dtype=np.int32)
    assert np.array_equal(_round_scales(scales, none), plain)
    assert _plan(scales, values, 1e-4, max_blocks=1)[0].shape == (1,)


def test_odd_scales_have_a_level() -> None:
    rank = np.array([5], dtype=np.int32)
    scales = np.array([[-1, 0, 1e-40, 0.1, 256, 1e30]], dtype=np.float32)
    assert _round_scales(scales, rank).tolist() == [0, 0, 0, 0, 63, 63]
    scales = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    assert _round_scales(scales, rank).tolist() == [0, 63, 0]


_ONES = np.ones((1, 2), dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _plan(_ONES * np.nan, _ONES, 1), "scales"),
        (lambda: _plan(_ONES, _ONES * np.inf, 1), "values"),
        (lambda: _plan(_ONES, _ONES * 1e12, 1), "values"),
        (lambda: _plan(_ONES, _ONES[:, :1], 1), "shape"),
        (lambda: _round_values(_ONES, np.zeros(3, np.int32)), "power of two"),
        (lambda: _round_values(_ONES, np.array([128], np.int32)), "0..127"),
        (lambda: _round_values(_ONES * 1e12, np.zeros(1, np.int32)), "values"),
        (lambda: _CXX.ScaleLevels([1.0, 1.0]), "ascend"),
        (lambda: _CXX.ScaleLevels([]), "empty"),
    ],
)
def test_bad_roundings_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def _standard() -> GaussianConditional:
    conditional = GaussianConditional(get_scale_table().tolist())
    conditional.update()
    return conditional


def test_values_that_no_shift_suits_are_told() -> None:
    conditional = _standard()
    scales = torch.full((1, 1, 4, 64), 0.5)
    values = torch.linspace(-3, 3, 256).reshape(scales.shape)
    symbols = torch.zeros_like(values)
    sync = SyncEncoder([Gain(torch.ones(1), torch.ones(1))], tolerance=0.2)
    strings, y_hat = sync.encode(conditional, symbols, scales, values)
    latent = SyncDecoder().decode_symbols(conditional, strings, scales + 0.15)
    assert torch.equal(latent.symbols, symbols)
    assert torch.equal(latent.settle(values + 0.19 * torch.sign(torch.sin(17 * values))), y_hat)


def test_levels_are_part_of_the_format() -> None:
    assert sync_rows(get_scale_table().numpy()).tolist() == [2, 4, *range(5, 64)]
    assert sync_rows(np.array([0.5, 1.0], dtype=np.float32)).tolist() == [0, 1]
    assert sync_rows(np.array([0.1, 0.15, 0.16], dtype=np.float32)).tolist() == [0, 1]
    conditional = GaussianConditional([0.5, 1.0, 2.0], scale_bound=0.9)
    assert conditional._scales().levels[0].tolist() == [1, 2]


def test_streams_are_read_as_written() -> None:
    (tables,) = _standard()._coder_tables()
    rounding = Rounding(
        np.array([0, 3, 127, 17], dtype=np.int32),
        Exceptions([0, 7, 9000], [1, 0, 60]),
        Exceptions([3, 9999], [-5, 2**20]),
    )
    symbols = np.arange(-50, 50, dtype=np.int32)
    rows = np.full(100, 40, dtype=np.int32)
    string = StreamWriter(rounding).finish(symbols, rows, tables)
    reader = StreamReader(string, 10_000)
    assert np.array_equal(reader.symbols(rows, tables), symbols)
    reader.check_finished()
    assert reader.rounding.scales == rounding.scales
    assert reader.rounding.values == rounding.values
    assert np.array_equal(reader.rounding.ranks, rounding.ranks)
    with pytest.raises(ValueError, match="out of range"):
        StreamReader(string, 9999)


def test_stream_format_does_not_change() -> None:
    (tables,) = _standard()._coder_tables()
    rounding = Rounding(np.array([1, 30], dtype=np.int32), Exceptions([4], [2]))
    rows = np.arange(8, dtype=np.int32) * 5
    string = StreamWriter(rounding).finish(rows - 15, rows, tables)
    assert string.hex() == ("3f212351aa3c46004cd852b8ffffb2f1f1ffffe831da8a94dcffdc1a")
