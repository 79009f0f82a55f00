# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Networks of integers: the same bits in every arithmetic, or an error when they are loaded."""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from program import PHOTO
from test_models_lite import TINY as SMALL
from torch import Tensor, nn

from compressai import zoo
from compressai.bitstream import decode_image, encode_image, read_image
from compressai.bitstream.errors import DesyncError, WrongWeightsError
from compressai.checkpoint import load_checkpoint, save_checkpoint
from compressai.inference import prepare
from compressai.models import IntegerLite, Lite
from compressai.models.integer import quantize_entropy_path
from compressai.models.integer.layers import (
    EXACT_BELOW,
    INPUT_LIMIT,
    LARGEST_OPERAND,
    IntegerConv2d,
    IntegerNetwork,
    LookUp,
)

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # torch 2.14 warns so whenever oneDNN is turned off.
    pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN"),
]

ROOT = Path(__file__).parents[1]
TINY: dict[str, Any] = {**SMALL, "context_widths": [6, 5], "nodes": 9}
WEIGHT = "latent_codec.y.channel_context.y1.mean_cc.2.weight"


def _images(count: int = 1, height: int = 128, width: int = 192, seed: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, height // 8, width // 8, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    return 0.7 * coarse.repeat_interleave(8, 2).repeat_interleave(8, 3) + 0.3 * fine


@pytest.fixture(scope="module")
def source() -> Lite:
    """A small model whose symbols and predictions are not all zero."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = Lite(**TINY).eval()
        with torch.no_grad():
            net.g_a[-1].weight.mul_(60)
            net.latent_codec.hyper.h_a[-1].weight.mul_(20)
            for place in IntegerLite.entropy_networks(net):
                place.module[-1].weight.mul_(4)
                place.module[-1].bias.uniform_(0.2, 1)
    net.update()
    return net


@pytest.fixture(scope="module")
def net(source: Lite) -> IntegerLite:
    """Its image in integers; tests must not change it."""
    return quantize_entropy_path(source, [_images(4)])


@pytest.fixture(scope="module")
def photo() -> Tensor:
    with Image.open(PHOTO) as image:
        return read_image(image.crop((100, 20, 356, 212))).pixels[None]


def _threads(count: int) -> AbstractContextManager[None]:
    class Threads(AbstractContextManager):
        def __enter__(self) -> None:
            torch.set_num_threads(count)

        def __exit__(self, *error: object) -> None:
            torch.set_num_threads(1)

    return Threads()


def _by_products(net: nn.Module) -> nn.Module:
    """As on a device that is no CPU."""
    for module in net.modules():
        if isinstance(module, IntegerConv2d):
            module.forward = lambda x, m=module: m._by_products(x, *m._floats(x.dtype))
    return net


ARITHMETICS: dict[str, tuple[Callable[[nn.Module], nn.Module], Callable[[], Any]]] = {
    "two threads": (lambda net: net, lambda: _threads(2)),
    "without oneDNN": (lambda net: net, lambda: torch.backends.mkldnn.flags(enabled=False)),
    "channels-last": (lambda net: net.to(memory_format=torch.channels_last), nullcontext),
    "double precision": (lambda net: net.double(), nullcontext),
    "autocast": (lambda net: net, lambda: torch.autocast("cpu", torch.bfloat16)),
    "bfloat16 transforms": (lambda net: prepare(net, "bf16"), nullcontext),
    "products of matrices": (_by_products, nullcontext),
}


# -- the model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [0, 47.5, 100])
@pytest.mark.parametrize("name", ARITHMETICS)
@pytest.mark.parametrize("shipped", [False, True], ids=["tiny", "shipped"])
def test_every_arithmetic_decodes_to_the_same_latent(
    name: str, shipped: bool, quality: float, net: IntegerLite, photo: Tensor
) -> None:
    if shipped:
        net, x = zoo.lite_integer(pretrained=True).eval(), photo
    else:
        x = _images(2)
    coded = net.compress(x, quality)
    want = coded["y_hat"]
    assert want.unique().numel() > 30
    assert torch.equal(net.decompress(coded["strings"], coded["shape"], quality)["y_hat"], want)
    convert, setting = ARITHMETICS[name]
    other = convert(copy.deepcopy(net))
    with setting():
        decoded = other.decompress(coded["strings"], coded["shape"], quality)["y_hat"]
    assert torch.equal(decoded.to(want.dtype), want)


def test_gains_leave_room_for_exact_products(net: IntegerLite) -> None:
    """Whatever the side information, or networks of integers would be fed with rounded values."""
    assert type(net) is IntegerLite
    hyper = net.latent_codec.hyper
    seen = []
    for network in (hyper.h_s.h_mean_s, hyper.h_s.h_scale_s):
        network.input.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    z_hat = (torch.arange(-20_000, 20_000, 7) / 16)[:5712].view(1, 4, -1, 1)
    for quality in (0.0, 13.7, 86.1, 100.0):
        gains = net.decoder_gains(torch.tensor([quality]))["z_gain_inv"]
        hyper.synthesis(z_hat, gains)
        exact = z_hat.double().clamp(-hyper.limit, hyper.limit) * gains.double()
        assert torch.equal(seen[-1].double(), exact)
    assert len(seen) == 8


def test_an_arithmetic_that_is_not_exact_does_not(net: IntegerLite) -> None:
    """Or the test above would test nothing."""
    coded = net.compress(_images())
    other = copy.deepcopy(net)
    for module in other.modules():
        if isinstance(module, IntegerConv2d):
            module.register_forward_hook(lambda _m, _i, out: out.bfloat16().float())
    try:
        decoded = other.decompress(coded["strings"], coded["shape"])["y_hat"]
    except ValueError:
        return
    assert not torch.equal(decoded, coded["y_hat"])


def test_batches_that_torch_would_transform_are_coded_like_single_images(
    net: IntegerLite,
) -> None:
    x = _images(17, 64, 64)
    with torch.backends.mkldnn.flags(enabled=False):
        coded = net.compress(x)
    for i in (0, 16):
        one = [[step[i]] for step in coded["strings"]]
        assert torch.equal(net.decompress(one, coded["shape"])["y_hat"][0], coded["y_hat"][i])


def test_latent_is_in_fixed_point(net: IntegerLite) -> None:
    y_hat = net.compress(_images())["y_hat"]
    assert torch.equal(y_hat * 32, (y_hat * 32).round())
    assert not torch.equal(y_hat * 16, (y_hat * 16).round())


def test_decoder_repeats_the_forward_pass(net: IntegerLite) -> None:
    x = _images()
    coded = net.compress(x)
    decoded = net.decompress(**coded)["x_hat"]
    with torch.no_grad():
        out = net(x)
    assert torch.equal(decoded, out["x_hat"].clamp(0, 1))


def test_quantising_costs_little(source: Lite, net: IntegerLite) -> None:
    x = _images(2, seed=6)
    with torch.no_grad():
        bits = [sum(-p.log2().sum() for p in m(x)["likelihoods"].values()) for m in (source, net)]
    assert bits[1] < 1.02 * bits[0]


def test_option_of_other_models_changes_nothing(net: IntegerLite) -> None:
    x = _images()
    coded = net.compress(x, sync_safe=False)
    assert net.compress(x, sync_safe=True, tolerance=1e-3)["strings"] == coded["strings"]


def test_transforms_still_learn(net: IntegerLite) -> None:
    """With the latent as it is coded, from which decoders could be trained further."""
    net = copy.deepcopy(net)
    net(_images())["x_hat"].square().mean().backward()
    assert all(p.grad is not None for p in [*net.g_s.parameters(), *net.g_a.parameters()])


# -- files ----------------------------------------------------------------------------------------


def test_files_are_in_synchrony_by_default(photo: Tensor) -> None:
    net = zoo.lite_integer(pretrained=True).eval()
    with Image.open(PHOTO) as image:
        sample = read_image(image.crop((100, 20, 356, 212)))
    coded = encode_image(net, sample, model="lite-integer", quality=40, metric="mse")
    assert coded.sync_safe
    assert coded.tiles[0].y_hat_hash
    pixels = decode_image(net, coded).pixels
    assert float(-10 * torch.log10((pixels - sample.pixels).square().mean())) > 30
    other = copy.deepcopy(net)
    other.g_s[0].weight.data += 0.01
    with pytest.raises(WrongWeightsError):
        decode_image(other, coded)
    for module in net.modules():
        if isinstance(module, IntegerConv2d):
            module.register_forward_hook(lambda _m, _i, out: out.bfloat16().float())
    with pytest.raises(DesyncError):
        decode_image(net, coded)


def test_shipped_integers_are_small_exact_and_belong_to_what_they_are_shipped_with() -> None:
    file = zoo.weights.installed_weights("lite-integer", "mse", None)
    assert file.stat().st_size <= 2e6
    net, floats = zoo.lite_integer(pretrained=True), zoo.lite(pretrained=True)
    assert type(net) is IntegerLite
    assert net.has_tables or net.update()
    assert torch.equal(net.g_s[0].weight, floats.g_s[0].weight)
    for place in IntegerLite.entropy_networks(net):
        place.module.check()
        assert any(bool(buffer.any()) for buffer in place.module.buffers())


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_shipped_integers_cost_next_to_nothing(quality: float, photo: Tensor) -> None:
    sizes, errors = [], []
    for build in (zoo.lite, zoo.lite_integer):
        net = build(pretrained=True).eval()
        coded = net.compress(photo, quality)
        sizes.append(sum(len(step[0]) for step in coded["strings"]))
        x_hat = net.decompress(coded["strings"], coded["shape"], quality)["x_hat"]
        errors.append(float(-10 * torch.log10((x_hat - photo).square().mean())))
    # Strings end at whole words: at most 8 bytes more for each.
    assert sizes[1] < 1.01 * sizes[0] + 4 * 2 * 5
    assert errors[1] > errors[0] - 0.05


def test_checkpoint_knows_what_it_is(net: IntegerLite, tmp_path: Path) -> None:
    file = tmp_path / "integer.safetensors"
    save_checkpoint(file, net, architecture="lite-integer", arguments={})
    loaded = load_checkpoint(file)
    assert type(loaded) is IntegerLite
    x = _images()
    assert loaded.compress(x)["strings"] == net.compress(x)["strings"]
    own, other = net.state_dict(), loaded.state_dict()
    assert all(own[key].dtype == other[key].dtype for key in own)


# -- what is refused ------------------------------------------------------------------------------


def test_weights_that_are_too_large_are_refused_when_they_are_loaded(net: IntegerLite) -> None:
    state = net.state_dict()
    # The layers behind it have too few inputs for sums that large.
    first = WEIGHT.replace("2.weight", "0.weight")
    weight = state[first].clone()
    weight[3] = LARGEST_OPERAND
    other = IntegerLite(**TINY)
    with pytest.raises(
        ValueError, match=r"channel_context\.y1\.mean_cc\.0: sums of output channel 3 must stay"
    ):
        other.load_state_dict({**state, first: weight})
    weight = state[WEIGHT].clone()
    weight[0, 0, 0, 0] = LARGEST_OPERAND + 1
    with pytest.raises(ValueError, match=r"mean_cc\.2: weights and inputs must be integers of at"):
        other.load_state_dict({**state, WEIGHT: weight})
    other.load_state_dict(state)
    with pytest.raises(ValueError, match=r"mean_cc\.2: weights"):
        nn.ModuleDict({"net": other}).load_state_dict(
            {f"net.{key}": value for key, value in {**state, WEIGHT: weight}.items()}
        )


def test_large_bias_and_large_table_are_refused(net: IntegerLite) -> None:
    state, head = net.state_dict(), WEIGHT.removesuffix("2.weight")
    bias = torch.full_like(state[head + "2.bias"], -EXACT_BELOW)
    with pytest.raises(ValueError, match=r"mean_cc\.2: sums"):
        IntegerLite(**TINY).load_state_dict({**state, head + "2.bias": bias})
    table = torch.full((LookUp.SIZE,), -(2**15), dtype=torch.int16)
    with pytest.raises(ValueError, match=r"mean_cc\.2: weights and inputs"):
        IntegerLite(**TINY).load_state_dict({**state, head + "table1.table": table})


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("value", [0.7, 196613.0, 3])
def test_weights_of_another_type_are_refused_not_cast(
    value: float, assign: bool, net: IntegerLite
) -> None:
    state, head = net.state_dict(), WEIGHT.removesuffix("2.weight")
    for key in ("2.weight", "2.bias", "2.exponent", "table1.table", "output.exponent"):
        other = torch.full(state[head + key].shape, value)  # int64 for 3
        with pytest.raises(ValueError, match=rf"mean_cc\.{key}: must be integers of torch\.int"):
            IntegerLite(**TINY).load_state_dict({**state, head + key: other}, assign=assign)


@pytest.mark.parametrize("layer", ["input", "2", "output"])
@pytest.mark.parametrize("exponent", [-128, -127, 127])
def test_exponents_out_of_range_are_refused(exponent: int, layer: str, net: IntegerLite) -> None:
    state, key = net.state_dict(), WEIGHT.replace("2.weight", f"{layer}.exponent")
    values = state[key].clone()
    values.view(-1)[-1] = exponent
    with pytest.raises(
        ValueError, match=rf"mean_cc\.{layer}\.exponent: must be within -126\.\.126, got {exponent}"
    ):
        IntegerLite(**TINY).load_state_dict({**state, key: values})


def test_check_sees_buffers_of_another_type(net: IntegerLite) -> None:
    place = next(IntegerLite.entropy_networks(copy.deepcopy(net))).module
    place[1].weight = place[1].weight.float()
    with pytest.raises(ValueError, match=r"some\.0\.weight: must be integers of torch\.int16"):
        place.check("some.")


def test_medians_between_the_grid_are_refused(net: IntegerLite) -> None:
    state = net.state_dict()
    key = "latent_codec.hyper.entropy_bottleneck.quantiles"
    with pytest.raises(ValueError, match="medians of z must be multiples of 1/16"):
        IntegerLite(**TINY).load_state_dict({**state, key: state[key] + 0.01})


def test_only_trained_models_with_images_are_quantised(source: Lite, net: IntegerLite) -> None:
    with pytest.raises(TypeError, match=r"of integers \(Lite\), got IntegerLite"):
        quantize_entropy_path(net, [_images()])
    with pytest.raises(TypeError, match="got Linear"):
        quantize_entropy_path(nn.Linear(1, 1), [_images()])
    with pytest.raises(ValueError, match="images must be at least one"):
        quantize_entropy_path(source, [])
    with pytest.raises(ValueError, match="use_cca"):
        IntegerLite(**TINY, use_cca=True)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_values_that_are_not_finite_are_not_quantised(value: float, source: Lite) -> None:
    with pytest.raises(ValueError, match="images must be finite"):
        quantize_entropy_path(source, [_images() * value])
    other = copy.deepcopy(source)
    with torch.no_grad():
        other.get_submodule(WEIGHT.removesuffix(".weight")).weight[0, 0] = value
    with pytest.raises(ValueError, match=r"y1\.mean_cc\.2: weights must be finite"):
        quantize_entropy_path(other, [_images()])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(2, 2),
        nn.Conv2d(2, 2, 3, bias=False),
        nn.Conv2d(2, 2, 3, groups=2),
        nn.Conv2d(2, 2, 3, dilation=2),
        nn.Conv2d(2, 2, 3, padding="same"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
    ],
    ids=str,
)
def test_layers_without_an_image_in_integers_are_refused(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match="layer must be Conv2d or ConvTranspose2d"):
        IntegerConv2d(layer)
    with pytest.raises(ValueError, match="network must be convolutions with non-linearities"):
        IntegerNetwork(nn.Sequential(layer, nn.ReLU()))


# -- the bound ------------------------------------------------------------------------------------


def _layer(kernel: int, stride: int, padding: int, transposed: bool) -> IntegerConv2d:
    if not transposed:
        return IntegerConv2d(nn.Conv2d(3, 4, kernel, stride, padding))
    return IntegerConv2d(nn.ConvTranspose2d(3, 4, kernel, stride, padding, stride - 1))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    transposed=st.booleans(),
    magnitude=st.integers(1, LARGEST_OPERAND),
    limit=st.integers(1, LARGEST_OPERAND),
)
def test_sums_within_the_bound_are_exact_in_every_order(
    seed: int, kernel: int, stride: int, transposed: bool, magnitude: int, limit: int
) -> None:
    generator = np.random.default_rng(seed)
    layer = _layer(kernel, stride, kernel // 2, transposed)

    def integers(highest: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(generator.integers(-highest, highest + 1, shape))

    layer.weight.copy_(integers(magnitude, layer.weight.shape))
    layer.exponent.copy_(integers(20, layer.exponent.shape))
    layer.bias.copy_(integers(2**20, layer.bias.shape))
    sums = layer.largest_sums(limit)
    x = integers(limit, (2, 3, 6, 7)).float()
    exact = layer(x.double())
    units = exact * torch.exp2(layer.exponent.double())[:, None, None]
    # The bound bounds, also where it is too high for exact sums.
    assert torch.equal(units, units.round())
    assert (units.abs().amax(dim=(0, 2, 3)) <= sums).all()
    within = sums < EXACT_BELOW
    backwards = copy.deepcopy(layer)
    backwards.weight.copy_(layer.weight.flip(1 - layer.output_axis))
    sums_of_products = (layer(x), layer._by_products(x, *layer._floats(x.dtype)))
    for out in (*sums_of_products, backwards(x.flip(1))):
        assert torch.equal(out[:, within].double(), exact[:, within])


def test_bound_is_reached_by_the_worst_input() -> None:
    for transposed in (False, True):
        layer = _layer(3, 2, 1, transposed)
        layer.weight.copy_(torch.arange(layer.weight.numel()).view(layer.weight.shape) - 50)
        layer.bias.fill_(7)
        x = INPUT_LIMIT * torch.ones(1, 3, 9, 9)
        worst = copy.deepcopy(layer)
        worst.weight.copy_(layer.weight.abs())
        assert torch.equal(
            worst(x)[:, :, 1:-1, 1:-1].amax(dim=(0, 2, 3)).long(), layer.largest_sums(INPUT_LIMIT)
        )


def test_tables_are_clamped_at_their_ends_and_halves_go_to_the_even_neighbour() -> None:
    look_up = LookUp()
    look_up.table.copy_(torch.arange(LookUp.SIZE) - LookUp.SIZE // 2)
    x = torch.tensor([-1e6, -2048.0, -0.5, 0.5, 1.5, 2047.0, 1e6])
    assert look_up(x).tolist() == [-2048, -2048, 0, 0, 2, 2047, 2047]


def test_changed_integers_are_seen_at_once() -> None:
    layer = IntegerConv2d(nn.Conv2d(1, 1, 1))
    x = torch.ones(1, 1, 1, 1)
    assert layer(x).item() == 0
    layer.weight.fill_(3)
    assert layer(x).item() == 3
    layer.exponent.fill_(1)
    assert layer(x).item() == 1.5
    with torch.inference_mode():
        assert layer(x.double()).item() == 1.5


# -- making the shipped weights -------------------------------------------------------------------


def _example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_writes_what_the_zoo_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    program = _example("quantize_lite")

    class Crops:
        def __init__(self, _folder: Path) -> None:
            pass

        def batch(self, size: int, side: int, _generator: object) -> Tensor:
            return (_images(size, side, side) * 255).round()

    monkeypatch.setattr(program, "Photos", Crops)
    words = ["--data", "x", "--export", str(tmp_path)]
    file = program.main([*words, "--crops", "3", "--crop", "64"])
    assert file.name.startswith("lite-integer-mse-all-")
    weights = zoo.weights
    floats = weights.installed_weights("lite", "mse", None)
    (tmp_path / floats.name).write_bytes(floats.read_bytes())
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    net = zoo.lite_integer(pretrained=True).eval()
    coded = net.compress(_images(1, 64, 64))
    assert torch.equal(net.decompress(coded["strings"], coded["shape"])["y_hat"], coded["y_hat"])
    sys.modules.pop("train_lite", None)
