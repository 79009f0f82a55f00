# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Variable-rate models: gains in all their forms, stages, offsets, and the parallel scan."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from deterministic import fill_module
from torch import Tensor, nn

from compressai import models, zoo
from compressai.entropy_models import EntropyBottleneckVbr
from compressai.latent_codecs._positions import ScanRate
from compressai.latent_codecs.rasterscan import scan_compress, scan_decompress
from compressai.models import (
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr,
    ScaleHyperpriorVbr,
)
from compressai.ops import quantize_ste
from compressai.zoo import image_vbr, weights

BASES = {
    ScaleHyperpriorVbr: models.ScaleHyperprior,
    MeanScaleHyperpriorVbr: models.MeanScaleHyperprior,
    JointAutoregressiveHierarchicalPriorsVbr: models.JointAutoregressiveHierarchicalPriors,
}
WITH_VARIABLE_Z = (ScaleHyperpriorVbr, MeanScaleHyperpriorVbr)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def build(cls: type[nn.Module], **kwargs: Any) -> Any:
    torch.manual_seed(0)
    net = cls(8, 12, **kwargs)
    fill_module(net, "vbr:", 1.3)
    with torch.no_grad():
        net.g_a[-1].weight *= 4  # symbols worth coding at all levels
    if kwargs.get("vr_entbttlnck"):
        net.gayn2zqstep[4].weight.data.abs_()  # steps above the lower bound
    net.update()
    return net.eval()


@pytest.fixture(params=BASES, ids=lambda cls: cls.__name__, scope="module")
def net(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


@pytest.fixture(scope="module")
def autoregressive() -> Any:
    return build(JointAutoregressiveHierarchicalPriorsVbr)


def sample(batch: int = 1, height: int = 64, width: int = 128) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, height, width, generator=generator)


def coded_size(coded: dict[str, Any]) -> int:
    return sum(len(item) for step in coded["strings"] for item in step)


@contextmanager
def attribute(net: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(net, name)
    setattr(net, name, value)
    try:
        yield
    finally:
        setattr(net, name, before)


@contextmanager
def seen_by(module: nn.Module) -> Iterator[list[Tensor]]:
    """The inputs of a module, in the order of its calls."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    try:
        yield seen
    finally:
        hook.remove()


# -- the gain -------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("call", [{"s": 0}, {"s": 4}, {"s": 7}, {"inputscale": 0.45}])
def test_decoder_sees_what_the_evaluation_sees(net: Any, call: dict[str, Any]) -> None:
    x = sample(2)
    coded = net.compress(x, **call)
    with seen_by(net.g_s) as y_hat:
        x_hat = net.decompress(coded["strings"], coded["shape"], **call)["x_hat"]
        want = net(x, **call)["x_hat"]
    torch.testing.assert_close(y_hat[0], y_hat[1], atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(x_hat, want.clamp(0, 1), atol=1e-4, rtol=0)


def test_higher_gains_cost_more_bytes(net: Any) -> None:
    x = sample()
    gains = [0.1, 0.25, 0.6, 1.0, 3.0]
    sizes = [coded_size(net.compress(x, inputscale=gain)) for gain in gains]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    "form",
    [float, torch.tensor, lambda v: torch.tensor([v]), lambda v: nn.Parameter(torch.tensor(v))],
    ids=["float", "scalar tensor", "one element", "parameter"],
)
def test_inputscale_takes_any_form_of_a_number(net: Any, form: Callable[[float], Any]) -> None:
    x, level = sample(), net.Gain[3].item()
    want = net.compress(x, s=3)
    coded = net.compress(x, inputscale=form(level))
    assert coded["strings"] == want["strings"]
    decoded = net.decompress(coded["strings"], coded["shape"], inputscale=form(level))
    assert torch.equal(
        decoded["x_hat"], net.decompress(want["strings"], want["shape"], s=3)["x_hat"]
    )
    assert torch.equal(net(x, inputscale=form(level))["x_hat"], net(x, s=3)["x_hat"])


@pytest.mark.parametrize("stage", [0, 3, None, "2"])
def test_unknown_stage_is_refused(net: Any, stage: Any) -> None:
    for call in (
        lambda: net(sample(), stage=stage),
        lambda: net.compress(sample(), stage=stage),
        lambda: net.decompress([[b""], [b""]], (1, 2), stage=stage),
    ):
        with pytest.raises(ValueError, match="stage must be 1"):
            call()


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf"), torch.ones(2)])
def test_bad_inputscale_is_refused(net: Any, scale: Any) -> None:
    for call in (net, net.compress):
        with pytest.raises(ValueError, match="inputscale must be"):
            call(sample(), inputscale=scale)


def test_unknown_level_is_refused_by_the_coder_and_clamped_in_evaluation(net: Any) -> None:
    for s in (-1, 8):
        with pytest.raises(ValueError, match=r"s must be in 0 \.\.\. 7"):
            net.compress(sample(), s=s)
    for s, clamped in ((-1, 0), (8, 7)):
        assert torch.equal(net(sample(), s=s)["x_hat"], net(sample(), s=clamped)["x_hat"])


def test_training_uses_the_levels_only() -> None:
    net = build(ScaleHyperpriorVbr).train()
    x, rates = sample(), []
    for call in ({"s": 2}, {"s": 2, "inputscale": 0.9}, {"s": 6}):
        torch.manual_seed(0)
        rates.append(float(net(x, **call)["likelihoods"]["y"].detach().log2().sum()))
    assert rates[0] == rates[1]
    assert rates[2] < rates[0]


# -- stage 1 --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("cls", BASES)
def test_first_stage_is_the_base_model(cls: type[nn.Module]) -> None:
    net, base = build(cls), BASES[cls](8, 12).eval()
    base.load_state_dict({k: v for k, v in net.state_dict().items() if k in base.state_dict()})
    x = sample(2)
    assert torch.equal(net(x, stage=1)["x_hat"], base(x)["x_hat"])
    # At gain 1, which the autoregressive coder multiplies scales by in this stage, too.
    coded, want = net.compress(x, stage=1, s=7), base.compress(x)
    assert coded["strings"] == want["strings"]
    decoded = net.decompress(coded["strings"], coded["shape"], stage=1, s=7)
    assert torch.equal(decoded["x_hat"], base.decompress(want["strings"], want["shape"])["x_hat"])


@torch.no_grad()
def test_autoregressive_first_stage_chooses_rows_by_gain(autoregressive: Any) -> None:
    x = sample()
    coded = [autoregressive.compress(x, stage=1, s=s) for s in (7, 3)]
    assert coded[0]["strings"] != coded[1]["strings"]
    decoded = [
        autoregressive.decompress(c["strings"], c["shape"], stage=1, s=s)["x_hat"]
        for c, s in zip(coded, (7, 3))
    ]
    assert torch.equal(*decoded)


# -- reconstruction offset ------------------------------------------------------------------------


@torch.no_grad()
def test_without_offset_values_are_centres_of_bins(net: Any) -> None:
    x, gain = sample(), net.Gain[5]
    with attribute(net, "no_quantoffset", True), seen_by(net.g_s) as y_hat:
        want = net(x, s=5)["x_hat"]
        coded = net.compress(x, s=5)
        x_hat = net.decompress(coded["strings"], coded["shape"], s=5)["x_hat"]
    torch.testing.assert_close(x_hat, want.clamp(0, 1), atol=1e-4, rtol=0)
    assert torch.equal(*[t.isfinite() for t in y_hat])
    if type(net) is ScaleHyperpriorVbr:  # there are no means
        symbols = y_hat[0] * gain
        torch.testing.assert_close(symbols, symbols.round(), atol=1e-4, rtol=0)
    assert not torch.equal(net(x, s=5)["x_hat"], want)


@torch.no_grad()
def test_offset_moves_values_but_never_zero() -> None:
    net, x = build(ScaleHyperpriorVbr), sample()
    with seen_by(net.g_s) as y_hat:
        net(x, s=5)
    symbols = torch.round(net.g_a(x) * net.Gain[5])
    moved = y_hat[0] * net.Gain[5] - symbols
    assert (symbols == 0).any()
    assert (moved[symbols == 0] == 0).all()
    assert (moved[symbols != 0].abs() > 1e-4).any()


def test_offset_and_step_networks_are_trained() -> None:
    net = build(MeanScaleHyperpriorVbr, vr_entbttlnck=True).train()
    out = net(sample(), s=5)
    (out["x_hat"].square().sum() - out["likelihoods"]["z"].log().sum()).backward()
    for network in (net.QuantABCD, net.gayn2zqstep, net.h_s, net.h_a, net.g_a):
        assert any(bool(p.grad.abs().sum() > 0) for p in network.parameters())
    assert net.Gain.grad is None  # the levels are given


# -- variable step of the side information --------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("cls", WITH_VARIABLE_Z)
def test_any_tables_decode_to_the_same_image(cls: type[nn.Module]) -> None:
    net, x = build(cls, vr_entbttlnck=True), sample(2)
    call = {"inputscale": 0.15}
    coded = [net.compress(x, **call)]
    decoded = [net.decompress(coded[0]["strings"], coded[0]["shape"], **call)["x_hat"]]
    assert not net.update(scale=0.15)
    assert net.update(force=True, scale=0.15)
    coded.append(net.compress(x, **call))
    decoded.append(net.decompress(coded[1]["strings"], coded[1]["shape"], **call)["x_hat"])
    assert coded[0]["strings"][0] == coded[1]["strings"][0]
    assert coded[0]["strings"][1] != coded[1]["strings"][1]
    assert torch.equal(*decoded)
    torch.testing.assert_close(decoded[0], net(x, **call)["x_hat"].clamp(0, 1), atol=1e-4, rtol=0)


def test_tables_for_the_step_save_bytes() -> None:
    torch.manual_seed(0)
    bottleneck, qs = EntropyBottleneckVbr(8).eval(), torch.tensor(4.0)
    z = torch.randn(1, 8, 20, 20) * 10
    sizes = []
    for step in (1.0, qs):
        bottleneck.update_variable(force=True, qs=step)
        sizes.append(len(bottleneck.compress(z, qs)[0]))
    assert sizes[1] < 0.9 * sizes[0]


def test_update_takes_numbers_and_levels_as_scale() -> None:
    net = build(ScaleHyperpriorVbr, vr_entbttlnck=True)
    tables = []
    for scale in (net.Gain[2], net.Gain[2].item(), net.Gain[2:3]):
        net.update(force=True, scale=scale)
        tables.append(net.entropy_bottleneck._quantized_cdf)
    assert torch.equal(tables[0], tables[1])
    assert torch.equal(tables[0], tables[2])
    net.update(force=True)
    assert net.entropy_bottleneck._quantized_cdf.shape != tables[0].shape


@pytest.mark.parametrize("cls", WITH_VARIABLE_Z)
@pytest.mark.parametrize("kwargs", [{}, {"vr_entbttlnck": True}])
def test_updated_weights_with_variable_step_load_again(
    cls: type[nn.Module], kwargs: dict[str, Any]
) -> None:
    net, x = build(cls, vr_entbttlnck=True), sample()
    net.update(force=True, scale=net.Gain[4])
    want = net.compress(x, s=4)["strings"]
    state = net.state_dict()
    loaded = cls.from_state_dict(state, **kwargs).eval()
    assert loaded.vr_entbttlnck
    assert loaded.compress(x, s=4)["strings"] == want
    again = build(cls, vr_entbttlnck=True)  # holds tables of another size
    again.load_state_dict(state)
    assert again.compress(x, s=4)["strings"] == want


def test_weights_of_the_other_bottleneck_are_refused() -> None:
    state = build(MeanScaleHyperpriorVbr).state_dict()
    assert not MeanScaleHyperpriorVbr.from_state_dict(state).vr_entbttlnck
    with pytest.raises(RuntimeError, match="gayn2zqstep"):
        MeanScaleHyperpriorVbr.from_state_dict(state, vr_entbttlnck=True)
    with pytest.raises(ValueError, match="not of"):
        MeanScaleHyperpriorVbr.from_state_dict({"conv.weight": torch.zeros(3, 3)})


def test_offset_of_earlier_releases_is_ignored_and_left_to_the_caller() -> None:
    state = {**build(ScaleHyperpriorVbr).state_dict(), "QuantOffset": torch.zeros(8)}
    assert ScaleHyperpriorVbr.from_state_dict(state).has_tables
    assert "QuantOffset" in state


def test_auxiliary_loss_leaves_the_variable_bottleneck_out_but_quantiles_can_be_solved() -> None:
    net = build(ScaleHyperpriorVbr, vr_entbttlnck=True)
    assert net.aux_loss() == 0
    assert net.entropy_bottleneck.loss() > 1
    assert not net.update(solve_quantiles=True)
    assert net.update(force=True, scale=net.Gain[1], solve_quantiles=True)
    assert net.entropy_bottleneck.loss() < 1
    assert build(ScaleHyperpriorVbr).aux_loss() > 0


@torch.no_grad()
def test_bottleneck_gives_the_values_of_its_decoder() -> None:
    torch.manual_seed(0)
    bottleneck, z = EntropyBottleneckVbr(4).eval(), torch.randn(2, 4, 3, 5) * 6
    for qs in (None, torch.tensor(1.7)):
        bottleneck.update_variable(force=True, qs=1.0 if qs is None else qs)
        strings, z_hat = bottleneck.compress_and_quantize(z, qs)
        assert strings == bottleneck.compress(z, qs)
        assert torch.equal(bottleneck.decompress(strings, (3, 5), qs), z_hat)
        assert torch.equal(bottleneck(z, qs=qs)[0], z_hat)


def test_autoregressive_model_has_no_variable_step() -> None:
    with pytest.raises(TypeError, match="vr_entbttlnck"):
        JointAutoregressiveHierarchicalPriorsVbr(8, 12, vr_entbttlnck=True)


# -- the scan of the autoregressive model ---------------------------------------------------------


def plain_scan(net: Any, y: Tensor, params: Tensor, gain: Tensor) -> Tensor:
    """The scan in its simplest form: position by position, with rounding as identity."""
    channels, height, width = y.shape[1:]
    zero = y.new_zeros(len(y), channels)
    rows = [[zero] * (width + 4) for _ in range(height + 2)]
    for h in range(height):
        for w in range(width):
            window = torch.stack(
                [torch.stack(rows[h + i][w : w + 5], -1) for i in range(2)]
                + [torch.stack([*rows[h + 2][w : w + 2], zero, zero, zero], -1)],
                -2,
            )
            weight = net.context_prediction.weight[:, :, :3]
            here = nn.functional.conv2d(
                window, weight * net.context_prediction.mask[:, :, :3], net.context_prediction.bias
            )
            here = here + net.scale_to_context(gain.reshape(1))[:, None, None]
            side = params[:, :, h : h + 1, w : w + 1]
            predicted = net.entropy_parameters(torch.cat((side, here), 1))
            scales, means = (t[:, :, 0, 0] for t in predicted.chunk(2, 1))
            symbols = quantize_ste((y[:, :, h, w] - means) * gain)
            rows[h + 2][w + 2] = net._dequantize_y(symbols, scales, means, gain)
    return torch.stack([torch.stack(row[2 : width + 2], -1) for row in rows[2:]], -2)


@pytest.fixture
def scan_inputs() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    y = torch.randn(2, 12, 4, 5) * 3
    return y.requires_grad_(), torch.randn(2, 24, 4, 5), torch.tensor(0.7)


def test_parallel_passes_end_at_the_values_of_the_scan(
    autoregressive: Any, scan_inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    y, params, gain = scan_inputs
    with torch.no_grad():
        want = plain_scan(autoregressive, y, params, gain)
        torch.testing.assert_close(autoregressive._decoded_values(y, params, gain), want)
        strings, y_hat = scan_compress(
            autoregressive, y, params, autoregressive._scan_rate(2, gain)
        )
        torch.testing.assert_close(y_hat, want)
        decoded, _ = scan_decompress(
            autoregressive, strings, params, autoregressive._scan_rate(2, gain)
        )
    assert torch.equal(decoded, y_hat)


def test_gradient_of_the_parallel_passes_is_that_of_the_scan(autoregressive: Any) -> None:
    torch.manual_seed(3)
    y, z_hat, gain = torch.randn(2, 12, 4, 4) * 3, torch.randn(2, 8, 1, 1), torch.tensor(0.7)
    weights = torch.randn(2, 12, 4, 4)
    inputs = [y.requires_grad_(), *autoregressive.context_prediction.parameters()]
    # The offset's own dependence on earlier values is what the parallel form leaves out.
    with attribute(autoregressive, "no_quantoffset", True):
        y_hat, likelihoods = autoregressive._forward_y(y, z_hat, gain)
        got = torch.autograd.grad((y_hat.square() + likelihoods * weights).sum(), inputs)

        params = autoregressive.h_s(z_hat)
        y_hat = plain_scan(autoregressive, y, params, gain)
        scales, means = autoregressive._predict(y_hat, params, gain)
        residual = (y - means) * gain
        _, likelihoods = autoregressive.gaussian_conditional(residual, scales * gain)
        want = torch.autograd.grad((y_hat.square() + likelihoods * weights).sum(), inputs)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_gain_can_be_hidden_from_the_context(autoregressive: Any) -> None:
    x = sample()
    shown = autoregressive.compress(x, s=2)["strings"]
    with attribute(autoregressive, "scl2ctx", False):
        coded = autoregressive.compress(x, s=2)
        x_hat = autoregressive.decompress(coded["strings"], coded["shape"], s=2)["x_hat"]
        want = autoregressive(x, s=2)["x_hat"].clamp(0, 1)
    assert coded["strings"] != shown
    torch.testing.assert_close(x_hat, want, atol=1e-4, rtol=0)


def test_other_ways_to_train_are_refused(autoregressive: Any) -> None:
    with (
        attribute(autoregressive, "ste_recursive", False),
        pytest.raises(ValueError, match="ste_recursive"),
    ):
        autoregressive(sample())


def test_scan_of_rate_one_is_the_plain_scan(autoregressive: Any) -> None:
    torch.manual_seed(4)
    y, params = torch.randn(1, 12, 3, 4) * 3, torch.randn(1, 24, 3, 4)
    want = scan_compress(autoregressive, y, params)
    rate = ScanRate(
        index_scale=1.0,
        gain=1.0,
        context_offset=torch.zeros(24),
        reconstruction_offset=torch.zeros_like,
    )
    got = scan_compress(autoregressive, y, params, rate)
    assert got[0] == want[0]
    assert torch.equal(got[1], want[1])


# -- zoo ------------------------------------------------------------------------------------------

ENTRIES = {
    "bmshj2018-hyperprior-vbr": ScaleHyperpriorVbr,
    "mbt2018-mean-vbr": MeanScaleHyperpriorVbr,
    "mbt2018-vbr": JointAutoregressiveHierarchicalPriorsVbr,
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entry_builds_one_model_for_all_qualities(name: str) -> None:
    entry = zoo.image_models[name]
    assert entry is getattr(zoo, name.replace("-", "_"))
    for quality in (0, 3):
        with torch.device("meta"):
            net = entry(quality)
        assert type(net) is ENTRIES[name]
        assert (net.N, net.M) == image_vbr.cfgs[name] == (192, 320)
    for metric in ("m", "", "ms-ssim"):
        with pytest.raises(ValueError, match="metric"):
            entry(metric=metric)
    with pytest.raises(TypeError, match="no use"):
        entry(pretrained=True, N=8)


def test_loader_names_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="architecture"):
        image_vbr._load_model("mbt2018", "mse")


def test_published_weights_bring_their_variable_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)
    with pytest.raises(RuntimeError, match="COMPRESSAI_HOME"):
        zoo.mbt2018_mean_vbr(pretrained=True)
    net = build(MeanScaleHyperpriorVbr, vr_entbttlnck=True)
    torch.save(net.state_dict(), tmp_path / "raw")
    digest = hashlib.sha256((tmp_path / "raw").read_bytes()).hexdigest()
    path = (tmp_path / "raw").rename(tmp_path / f"tiny-vbr-{digest[:8]}.pth.tar")
    monkeypatch.setattr(
        weights, "published_weights", lambda: {"mbt2018-mean-vbr": {"mse": {"-": path.name}}}
    )
    loaded = zoo.mbt2018_mean_vbr(pretrained=True).eval()
    assert (loaded.N, loaded.M, loaded.vr_entbttlnck) == (8, 12, True)
    assert loaded.compress(sample())["strings"] == net.compress(sample())["strings"]
