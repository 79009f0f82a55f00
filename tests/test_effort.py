# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Encoding with effort: never worse, better where there is something to gain, same format."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch
from test_overrides_families import FAMILIES, build

import compressai
from compressai.bitstream import CodedImage, ImageData, decode_image, encode_image
from compressai.checkpoint import save_checkpoint
from compressai.inference import EFFORTS, compress_with_effort, prepare
from compressai.models import effort as effort_module
from compressai.ops import quantize_ste, relaxed_rounding, rounded
from compressai.zoo import cca, lite, lite_integer

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def lagrangian(
    net: Any, x: torch.Tensor, coded: Any, lmbda: float, **arguments: Any
) -> list[float]:
    x_hat = net.decompress(coded["strings"], coded["shape"], **arguments)["x_hat"]
    bits = [sum(8 * len(step[i]) for step in coded["strings"]) for i in range(len(x))]
    errors = (x_hat - x).square().mean((1, 2, 3)).tolist()
    pixels = x[0, 0].numel()
    return [rate / pixels + lmbda * 255**2 * error for rate, error in zip(bits, errors)]


@pytest.fixture(scope="module")
def shipped() -> Any:
    return lite(4, pretrained=True).eval()


@pytest.fixture(scope="module")
def crop() -> torch.Tensor:
    from PIL import Image
    from torchvision.transforms.functional import to_tensor

    with Image.open("examples/assets/chelsea.png") as image:
        return to_tensor(image.convert("RGB").crop((150, 60, 278, 188)))[None]


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f != "ssf2020" and not f.endswith("-integer")]
)
def test_every_family_decodes_to_what_was_refined(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort_module, "EFFORTS", (0, 3))
    net = build(family)
    side = max(64, getattr(net, "downsampling_factor", 64))
    x = torch.rand(2, 3, side, side)
    net.update()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    refined: list[Any] = []
    offer = effort_module._Best.offer

    def note(best: Any, latents: Any) -> bool:
        refined.append(latents.y.clone())
        return offer(best, latents)

    monkeypatch.setattr(effort_module._Best, "offer", note)
    plain = net.compress(x)
    coded = net.compress(x, effort=2, lmbda=0.01)
    assert torch.equal(net.decompress(coded["strings"], coded["shape"])["y_hat"], coded["y_hat"])
    for before, after in zip(lagrangian(net, x, plain, 0.01), lagrangian(net, x, coded, 0.01)):
        assert after <= before
    assert not torch.equal(refined[0], net.g_a(x)), "nothing was refined"
    again = net.compress(x)
    assert again["strings"] == plain["strings"], "the model is not as it was"
    for name, value in net.state_dict().items():
        assert torch.equal(value, weights[name])
    assert all(parameter.grad is None for parameter in net.parameters())


def test_shipped_weights_gain(shipped: Any, crop: torch.Tensor) -> None:
    [before] = lagrangian(shipped, crop, shipped.compress(crop), shipped.lagrangian_multiplier())
    [after] = lagrangian(
        shipped, crop, shipped.compress(crop, effort=5), shipped.lagrangian_multiplier()
    )
    # 3.0 % by 80 steps with the weights of step 96,500; with all of the paper's noise it is 1.0 %.
    assert after < 0.98 * before


def test_mode_and_precision_are_those_of_coding(shipped: Any, crop: torch.Tensor) -> None:
    expected = shipped.compress(crop, effort=2)
    shipped.train()
    try:
        with torch.autocast("cpu", torch.bfloat16):
            coded = shipped.compress(crop, effort=2)
        assert shipped.training
        assert shipped.g_a.training
    finally:
        shipped.eval()
    assert coded["strings"] == expected["strings"]


def test_what_does_not_fit_is_told_before_the_work(shipped: Any, crop: torch.Tensor) -> None:
    calls: list[int] = []
    hook = shipped.g_a.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(ValueError, match="lmbda must be positive"):
        shipped.compress(crop, effort=2, lmbda=-1)
    hook.remove()
    assert not calls


def test_same_call_gives_same_strings(shipped: Any, crop: torch.Tensor) -> None:
    first, second = (shipped.compress(crop, effort=2) for _ in range(2))
    assert first["strings"] == second["strings"]


def test_prepared_and_synchronised(shipped: Any, crop: torch.Tensor) -> None:
    prepared = prepare(shipped, "fp32")
    plain = prepared.compress(crop, sync_safe=True)
    coded = prepared.compress(crop, effort=3, sync_safe=True, verify=True)
    assert coded["strings"] != plain["strings"]
    out = shipped.decompress(
        coded["strings"], coded["shape"], sync_safe=True, latent_hash=coded["latent_hash"]
    )
    assert torch.equal(out["y_hat"], coded["y_hat"])


def test_each_image_of_a_batch_has_the_better_strings(
    shipped: Any, crop: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.cat((crop, crop.flip(-1)))
    plain = shipped.compress(x)
    measured = effort_module._Objective.measured
    calls: list[int] = []

    def second_is_worse(objective: Any, coded: Any) -> list[float]:
        first, _ = measured(objective, coded)
        calls.append(1)
        return [first, float(len(calls))]

    monkeypatch.setattr(effort_module._Objective, "measured", second_is_worse)
    coded = shipped.compress(x, effort=3)
    for new, old in zip(coded["strings"], plain["strings"]):
        assert new[1] == old[1]
    assert any(new[0] != old[0] for new, old in zip(coded["strings"], plain["strings"]))
    out = shipped.decompress(coded["strings"], coded["shape"])
    assert torch.equal(out["y_hat"], coded["y_hat"])


def test_large_images_are_refined_in_parts(
    shipped: Any, crop: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort_module, "_PART", 64)
    monkeypatch.setattr(effort_module, "_MARGIN", 64)
    x = crop.repeat(1, 1, 2, 2)
    seen: list[tuple[int, ...]] = []
    estimated = effort_module._Objective.estimated

    def note(objective: Any, latents: Any, rows: slice, columns: slice) -> torch.Tensor:
        seen.append((rows.start, rows.stop, columns.start, columns.stop))
        return estimated(objective, latents, rows, columns)

    monkeypatch.setattr(effort_module._Objective, "estimated", note)
    shares: list[float] = []
    coded = compress_with_effort(shipped, x, effort=2, progress=shares.append)
    assert (0, 128, 0, 128) in seen
    assert (128, 256, 64, 256) in seen
    assert shares == sorted(shares)
    assert shares[-1] == 1
    [before] = lagrangian(shipped, x, shipped.compress(x), shipped.lagrangian_multiplier())
    [after] = lagrangian(shipped, x, coded, shipped.lagrangian_multiplier())
    assert after < before


@pytest.mark.parametrize("quality", [0, 50, 100])
def test_a_step_of_descent_is_one_in_steps_of_the_quantiser(
    shipped: Any, crop: torch.Tensor, quality: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort_module, "EFFORTS", (0, 1))
    refined: list[torch.Tensor] = []
    monkeypatch.setattr(
        effort_module._Best, "offer", lambda _, latents: refined.append(latents.y.clone())
    )
    shipped.compress(crop, quality, effort=2)
    gain = shipped.encoder_gains(torch.tensor([float(quality)]))["y_gain"]
    with torch.no_grad():
        moved = ((refined[0] - shipped.g_a(crop)) * gain).abs()
    # The first one of Adam is as long as the learning rate.
    assert float(moved.max()) == pytest.approx(effort_module._LEARNING_RATE, rel=0.05)


def test_padding_is_not_judged(shipped: Any, crop: torch.Tensor) -> None:
    sample = ImageData(crop[0, :, :100, :90])
    files = [encode_image(shipped, sample, effort=e) for e in (1, 3)]
    values = []
    for coded in files:
        coded = CodedImage.from_bytes(coded.to_bytes())
        pixels = decode_image(shipped, coded).pixels
        bits = 8 * sum(len(string) for string in coded.tiles[0].strings)
        error = float((pixels - sample.pixels).square().mean())
        values.append(bits / 9000 + shipped.lagrangian_multiplier() * 255**2 * error)
    assert values[1] < values[0]


def test_multiplier_is_known_where_it_can_be(tmp_path: Any) -> None:
    assert lite(2).lagrangian_multiplier() == pytest.approx(0.009, rel=0.02)
    assert cca(quality=2).lagrangian_multiplier() == pytest.approx(0.05 / 1.8)
    variable = build("mbt2018-vbr")
    assert variable.lagrangian_multiplier(s=3) == variable.lmbda[3]
    smooth = build("lite")
    assert smooth.lagrangian_multiplier(quality=100) == pytest.approx(1.6)
    net = build("bmshj2018-factorized")
    path = tmp_path / "net.safetensors"
    save_checkpoint(
        *(path, net),
        architecture="bmshj2018-factorized",
        arguments={"N": 4, "M": 6},
        lmbda=0.125,
    )
    assert compressai.load(path).lmbda == 0.125


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"effort": 0}, ValueError, r"effort must be in 1 \.\.\. 9, got 0"),
        ({"effort": 10}, ValueError, r"effort must be in 1 \.\.\. 9, got 10"),
        ({"effort": 2.0}, TypeError, "effort must be an integer, got float"),
        ({"effort": True}, TypeError, "effort must be an integer, got bool"),
        ({"effort": 2, "lmbda": 0}, ValueError, "lmbda must be positive and finite, got 0"),
        ({"effort": 2, "lmbda": math.nan}, ValueError, "lmbda must be positive and finite"),
        ({"effort": 2}, ValueError, "effort 2 needs lmbda"),
        ({"effort": 2, "lmbda": "x"}, TypeError, "lmbda must be a number, got str"),
    ],
)
def test_arguments_that_do_not_fit(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    net = build("mbt2018-mean")
    with pytest.raises(error, match=message):
        net.compress(torch.rand(1, 3, 64, 64), **arguments)


def test_integers_have_no_gradient() -> None:
    net = lite_integer(pretrained=True).eval()
    with pytest.raises(ValueError, match="effort must be 1 for IntegerLite"):
        net.compress(torch.rand(1, 3, 64, 64), effort=2)


def test_benchmark_prints_a_line_for_each_effort(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend("benchmarks")
    benchmark = importlib.import_module("effort")
    monkeypatch.setattr(benchmark, "_SIDE", 64)
    benchmark.main(["examples/assets/chelsea.png", "--efforts", "1", "2"])
    heading, plain, refined = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "effort"
    assert plain.split()[4:] == ["0.0", "%"]
    assert float(refined.split()[4]) <= 0


def test_time_grows_with_effort() -> None:
    assert list(EFFORTS) == sorted(set(EFFORTS))
    assert EFFORTS[0] == 0


def test_relaxation_is_of_its_thread_and_block() -> None:
    x = torch.tensor([0.4, 1.6])
    with relaxed_rounding(lambda values: 10 * values):
        assert rounded(x).tolist() == (10 * x).tolist()
        assert quantize_ste(x).tolist() == (10 * x).tolist()
    assert rounded(x).tolist() == quantize_ste(x).tolist() == [0, 2]
