# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Scale-space flow: prediction, coding of groups of frames, weights, and the zoo's entry."""

from __future__ import annotations

import copy
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from compressai import zoo
from compressai.models.utils import (
    gaussian_blur,
    gaussian_kernel1d,
    gaussian_kernel2d,
    meshgrid2d,
)
from compressai.models.video import ScaleSpaceFlow
from compressai.registry import MODELS
from compressai.zoo import video, weights

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def net() -> ScaleSpaceFlow:
    torch.manual_seed(0)
    net = ScaleSpaceFlow()
    # Fresh networks give latents near zero; spread them, so that symbols are worth coding.
    with torch.no_grad():
        for encoder in (net.img_encoder, net.motion_encoder, net.res_encoder):
            for layer in encoder[::2]:
                layer.weight *= 3
    net.update()
    return net.eval()


@pytest.fixture(scope="module")
def clip() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    first = torch.rand(1, 3, 128, 128, generator=generator)
    return [first, first.roll(3, dims=3), first.roll(6, dims=3)]


@pytest.fixture(scope="module")
def coded(net: ScaleSpaceFlow, clip: list[Tensor]) -> tuple[list[Any], list[Any]]:
    return net.compress(clip)


def ramp(shape: tuple[int, ...], a: float, b: float, amp: float, off: float) -> Tensor:
    index = np.arange(int(np.prod(shape)), dtype=np.float64)
    return torch.from_numpy((off + amp * np.sin(a * index + b)).astype(np.float32)).reshape(shape)


# -- helpers --------------------------------------------------------------------------------------


def test_kernels_are_normalised_and_symmetric() -> None:
    line = gaussian_kernel1d(7, 1.5, "cpu", torch.float64)
    assert line.sum().item() == pytest.approx(1)
    assert torch.equal(line, line.flip(0))
    assert (line[4] / line[3]).item() == pytest.approx(np.exp(-0.5 / 1.5**2))
    square = gaussian_kernel2d(7, 1.5, "cpu", torch.float64)
    torch.testing.assert_close(square, line[:, None] * line)
    for size, sigma in ((0, 1.0), (3, 0.0), (3, -1.0)):
        with pytest.raises(ValueError, match="kernel_size"):
            gaussian_kernel1d(size, sigma, "cpu", torch.float32)


def test_blur_keeps_constants_up_to_the_border_and_channels_apart() -> None:
    x = torch.stack([torch.full((9, 6), 0.25), torch.rand(9, 6)])[None]
    blurred = gaussian_blur(x, kernel_size=5, sigma=1.0)
    assert blurred.shape == x.shape
    torch.testing.assert_close(blurred[:, 0], x[:, 0])
    assert blurred[:, 1].std() < x[:, 1].std()
    kernel = gaussian_kernel2d(5, 1.0, "cpu", torch.float32)
    assert torch.equal(gaussian_blur(x, kernel=kernel), blurred)
    with pytest.raises(RuntimeError, match="kernel"):
        gaussian_blur(x, sigma=1.0)
    with pytest.raises(ValueError, match="odd"):
        gaussian_blur(x, kernel=torch.ones(4, 4))


def test_grid_finds_every_pixel() -> None:
    x = torch.rand(2, 3, 5, 7)
    grid = meshgrid2d(2, 3, 5, 7, "cpu")
    assert grid.shape == (2, 5, 7, 2)
    sampled = torch.nn.functional.grid_sample(x, grid, align_corners=False)
    torch.testing.assert_close(sampled, x)


# -- prediction -----------------------------------------------------------------------------------


def test_volume_is_that_of_the_reference() -> None:
    volume = ScaleSpaceFlow.gaussian_volume(ramp((1, 1, 32, 32), 0.05, 0, 0.5, 0.5), 1.5, 3)
    assert volume.shape == (1, 1, 4, 32, 32)
    # Mean, deviation and first value of each slice.
    want = [
        (0.5037656, 0.3519403, 0.5),
        (0.5072175, 0.0545107, 0.593746),
        (0.5085838, 0.0351369, 0.5627033),
        (0.5097507, 0.0255718, 0.5404591),
    ]
    for i, values in enumerate(want):
        level = volume[0, 0, i]
        got = (level.mean().item(), level.std().item(), level[0, 0].item())
        assert got == pytest.approx(values, rel=1e-5)


def test_prediction_is_that_of_the_reference() -> None:
    with torch.device("meta"):
        net = ScaleSpaceFlow(num_levels=3)
    x_ref = ramp((1, 3, 32, 32), 0.05, 0, 0.5, 0.5)
    x_pred = net.forward_prediction(x_ref, ramp((1, 3, 32, 32), 0.07, 0, 0.3, 0))
    assert x_pred.mean().item() == pytest.approx(0.5167544, rel=1e-5)
    assert x_pred.std().item() == pytest.approx(0.0580692, rel=1e-5)
    first = [0.4761234, 0.4963463, 0.5129763, 0.5376047, 0.5655544, 0.5958496, 0.622576, 0.6513906]
    assert x_pred.flatten()[:8].tolist() == pytest.approx(first, rel=1e-5)


def test_no_motion_gives_the_reference_or_its_most_blurred_version(net: ScaleSpaceFlow) -> None:
    x = torch.rand(2, 3, 32, 48)
    motion = torch.zeros(2, 3, 32, 48)
    motion[:, 2] = -1
    torch.testing.assert_close(net.forward_prediction(x, motion), x, atol=1e-5, rtol=0)
    motion[:, 2] = 1
    blurred = net.gaussian_volume(x, 1.5, 5)[:, :, -1]
    torch.testing.assert_close(net.forward_prediction(x, motion), blurred, atol=1e-5, rtol=0)


def test_flow_is_in_half_widths(net: ScaleSpaceFlow) -> None:
    x = torch.rand(1, 3, 32, 64)
    motion = torch.zeros(1, 3, 32, 64)
    motion[:, 0] = 2 * 2 / 64  # two pixels to the right
    motion[:, 2] = -1
    moved = net.forward_prediction(x, motion)
    torch.testing.assert_close(moved[..., :-2], x[..., 2:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved[..., -1], x[..., -1], atol=1e-5, rtol=0)  # border


def test_prediction_is_in_single_precision_under_autocast(net: ScaleSpaceFlow) -> None:
    x, motion = torch.rand(1, 3, 32, 32), torch.randn(1, 3, 32, 32) * 0.1
    want = net.forward_prediction(x, motion)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.forward_prediction(x, motion), want)
    assert net.forward_prediction(x.bfloat16(), motion.bfloat16()).dtype == torch.float32


def test_bad_volumes_are_refused(net: ScaleSpaceFlow) -> None:
    with pytest.raises(ValueError, match="multiples of 16"):
        net.gaussian_volume(torch.rand(1, 3, 24, 32), 1.5, 5)
    with pytest.raises(ValueError, match="five dimensions"):
        net.warp_volume(torch.rand(3, 4, 8, 8), torch.zeros(3, 2, 8, 8), torch.zeros(3, 1, 8, 8))


# -- forward --------------------------------------------------------------------------------------


@torch.no_grad()
def test_forward_labels_likelihoods_of_each_frame(net: ScaleSpaceFlow, clip: list[Tensor]) -> None:
    out = net(clip[:2])
    assert [x_hat.shape for x_hat in out["x_hat"]] == [(1, 3, 128, 128)] * 2
    keyframe, inter = out["likelihoods"]
    assert list(keyframe) == ["keyframe"]
    assert list(inter) == ["motion", "residual"]
    for part in (keyframe["keyframe"], inter["motion"], inter["residual"]):
        assert part["y"].shape == (1, 192, 8, 8)
        assert part["z"].shape == (1, 192, 1, 1)
        assert all(bool(((p > 0) & (p <= 1)).all()) for p in part.values())
    again = net(tuple(clip[:2]))
    assert all(torch.equal(a, b) for a, b in zip(out["x_hat"], again["x_hat"]))


def test_gradients_reach_all_weights_but_not_the_key_frame_through_prediction() -> None:
    torch.manual_seed(0)
    net = ScaleSpaceFlow().train()
    frames = [torch.rand(1, 3, 128, 128) for _ in range(2)]
    out = net(frames)
    inter = sum(-p.log().sum() for part in out["likelihoods"][1].values() for p in part.values())
    (inter + out["x_hat"][1].square().sum()).backward()
    for name, parameter in net.named_parameters():
        inside = not name.startswith("img_") and not name.endswith("quantiles")
        assert (parameter.grad is not None) == inside, name
    net.zero_grad()
    losses = net.aux_loss()
    assert len(losses) == 3
    sum(losses).backward()
    assert all(
        (parameter.grad is not None) == name.endswith("quantiles")
        for name, parameter in net.named_parameters()
    )


@pytest.mark.parametrize("call", ["forward", "compress"])
def test_bad_frames_are_refused(net: ScaleSpaceFlow, clip: list[Tensor], call: str) -> None:
    method = getattr(net, call)
    with pytest.raises(TypeError, match="list or tuple"):
        method(clip[0])
    with pytest.raises(ValueError, match="at least one"):
        method([])
    with pytest.raises(ValueError, match="same shape"):
        method([clip[0], clip[0][..., :64]])
    with pytest.raises(ValueError, match="multiples of 128"):
        method([torch.rand(1, 3, 128, 64)])


@pytest.mark.parametrize("arguments", [{"num_levels": 0}, {"sigma0": 0.0}, {"sigma0": -1.0}])
def test_bad_constructor_arguments_are_named(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ScaleSpaceFlow(**arguments)


# -- coding ---------------------------------------------------------------------------------------


@torch.no_grad()
def test_decoded_frames_are_those_of_the_encoder_and_the_evaluation(
    net: ScaleSpaceFlow, clip: list[Tensor], coded: tuple[list[Any], list[Any]]
) -> None:
    strings, shapes = coded
    assert list(strings[1]) == list(shapes[1]) == ["motion", "residual"]
    assert sum(len(s) for part in strings[1].values() for y_or_z in part for s in y_or_z) > 500
    decoded = net.decompress(strings, shapes)
    want = net(clip)["x_hat"]
    assert len(decoded) == 3
    assert all(torch.equal(a, b) for a, b in zip(decoded, want))
    x_hat, keyframe = net.encode_keyframe(clip[0])
    assert keyframe["strings"] == strings[0]
    assert torch.equal(x_hat, decoded[0])
    x_hat, inter = net.encode_inter(clip[1], decoded[0])
    assert inter["strings"] == strings[1]
    assert torch.equal(x_hat, net.decode_inter(decoded[0], inter["strings"], inter["shape"]))


def test_decoder_rejects_what_is_no_group_of_frames(
    net: ScaleSpaceFlow, coded: tuple[list[Any], list[Any]]
) -> None:
    strings, shapes = coded
    with pytest.raises(TypeError, match="shapes"):
        net.decompress(strings, {"shapes": shapes})
    for bad in ((strings, shapes[:2]), ([], [])):
        with pytest.raises(ValueError, match="one entry a frame"):
            net.decompress(*bad)
    with pytest.raises(AssertionError, match="2 lists"):
        net.decompress([strings[0][:1]], shapes[:1])
    x_ref = torch.rand(1, 3, 128, 128)
    with pytest.raises(ValueError, match="'motion' and 'residual'"):
        net.decode_inter(x_ref, {"motion": strings[1]["motion"]}, shapes[1])


@pytest.mark.parametrize("part", ["motion", "residual"])
def test_decoder_rejects_truncated_strings(
    net: ScaleSpaceFlow, coded: tuple[list[Any], list[Any]], part: str
) -> None:
    strings, shapes = copy.deepcopy(coded)
    strings[1][part][0][0] = strings[1][part][0][0][:-8]
    with pytest.raises(ValueError):
        net.decompress(strings, shapes)


# -- weights --------------------------------------------------------------------------------------


def test_models_can_be_copied_pickled_and_rebuilt_from_their_weights(
    net: ScaleSpaceFlow, clip: list[Tensor], coded: tuple[list[Any], list[Any]]
) -> None:
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    copies = (
        pickle.loads(pickle.dumps(net)),
        copy.deepcopy(net),
        ScaleSpaceFlow.from_state_dict({"state_dict": state}).eval(),
    )
    for other in copies:
        assert other.encode_keyframe(clip[0])[1]["strings"] == coded[0][0]
        assert (other.num_levels, other.sigma0) == (5, 1.5)


def test_settings_that_weights_do_not_tell_can_be_given(net: ScaleSpaceFlow) -> None:
    other = ScaleSpaceFlow.from_state_dict(net.state_dict(), num_levels=3, sigma0=1.0)
    assert (other.num_levels, other.sigma0) == (3, 1.0)
    with pytest.raises(ValueError, match="not of ScaleSpaceFlow"):
        ScaleSpaceFlow.from_state_dict({"conv.weight": torch.zeros(3, 3)})


def test_entry_builds_the_model_and_refuses_bad_arguments() -> None:
    assert MODELS["ssf2020"] is ScaleSpaceFlow
    assert list(zoo.video_models) == ["ssf2020"]
    assert list(zoo.models)[-1] == "ssf2020"
    assert list(zoo.models) == [*zoo.image_models, *zoo.video_models]
    with torch.device("meta"):
        assert type(zoo.ssf2020(9, "ms-ssim", num_levels=4)) is ScaleSpaceFlow
    for quality, metric in ((0, "mse"), (10, "mse"), (1.5, "mse"), (1, "ssim"), (1, "m")):
        with pytest.raises(ValueError, match=r"quality|metric"):
            zoo.ssf2020(quality, metric)
    with pytest.raises(ValueError, match="architecture"):
        video._load_model("nothing", "mse", 1)
    with pytest.raises(RuntimeError, match="no weights were published"):
        zoo.ssf2020(1, "ms-ssim", pretrained=True)
    with pytest.raises(TypeError, match="no use"):
        zoo.ssf2020(1, pretrained=True, num_levels=4)


def test_published_weights_are_loaded(
    net: ScaleSpaceFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    torch.save(net.state_dict(), tmp_path / "raw")
    digest = hashlib.sha256((tmp_path / "raw").read_bytes()).hexdigest()
    path = (tmp_path / "raw").rename(tmp_path / f"tiny-{digest[:8]}.pth.tar")
    monkeypatch.setattr(
        weights, "published_weights", lambda: {"ssf2020": {"mse": {"2": path.name}}}
    )
    loaded = zoo.ssf2020(2, pretrained=True)
    assert torch.equal(loaded.img_encoder[0].weight, net.img_encoder[0].weight)
