# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where bits are and what is wrong: sums that add up, models that were broken on purpose."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from program import MODEL, alone_in, program, save_photo
from tiny_nets import tiny_net
from torch import nn

from compressai import ans
from compressai.bitstream import ImageData, encode_image
from compressai.checkpoint import save_checkpoint
from compressai.explain import (
    compare_runs,
    health_of,
    image_bits,
    run_model,
    save_maps,
    symbol_bits,
    weights_not_finite,
)
from compressai.inference import prepare
from compressai.registry import ENTRIES

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# The state at the end of a string is 64 bits, of which the coder uses 32 at least.
_MOST_AT_END = 64
NAMES = [entry.name for entry in ENTRIES.values() if entry.in_zoo and not entry.video]


def photo(height: int = 100, width: int = 120, seed: int = 0) -> ImageData:
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.random((1, 3, 12, 15), dtype=np.float32))
    x = nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return ImageData(x[0])


def small_net(name: str) -> nn.Module:
    entry = ENTRIES[name]
    if entry.extra:
        pytest.importorskip("timm")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(1)
        net = entry.model(**entry.small).eval()
    net.update()
    return net


def test_price_of_symbols_is_what_the_coder_needs() -> None:
    generator = np.random.default_rng(0)
    tables = ([[0, 60000, 65000, 65536], [0, 1, 65535, 65536]], [4, 4], [-1, 5])
    rows = generator.integers(0, 2, 4000, dtype=np.int32)
    symbols = np.where(rows, 6, generator.integers(-1, 1, 4000)).astype(np.int32)
    symbols[::50] = generator.integers(-(2**20), 2**20, 80)
    for given in (tables, (ans.CdfTables(*tables),)):
        price = symbol_bits(symbols, rows, given)
        real = 8 * len(ans.RansEncoder().encode_with_indexes(symbols, rows, *tables))
        assert 32 <= real - price.bits <= _MOST_AT_END
    assert (price.symbols, price.escapes) == (4000, 80)
    assert 0 < price.escape_bits < price.bits
    assert symbol_bits([], [], tables).bits == 0


@pytest.mark.parametrize("name", NAMES)
def test_all_bits_of_strings_are_accounted_for(name: str) -> None:
    net, image = small_net(name), photo()
    before = encode_image(net, image, model=name)
    bits = image_bits(net, image, model=name)
    # Listening changes nothing.
    assert bits.coded == before
    assert bits.file == 8 * len(before.to_bytes())
    assert bits.strings == 8 * sum(map(len, before.strings))
    assert 0 < bits.container < bits.file
    for latent in bits.latents:
        assert latent.table.symbols > 0
        assert 0 < latent.ends <= _MOST_AT_END * latent.strings
        assert latent.estimated >= 0
        if abs(latent.gap) > 0.005:
            assert latent.reasons()
    y = bits.latents[0]
    assert y.name == "y"
    assert y.varies is not None
    assert len(y.varies) == len(y.channels)


def test_plain_coding_tells_nothing_and_names_no_reason_for_small_gaps() -> None:
    net = tiny_net("bmshj2018-factorized")
    net.update(force=True, update_quantiles=True)
    bits = image_bits(net, photo(512, 512), model="bmshj2018-factorized", sync_safe=False)
    (y,) = bits.latents
    assert y.told == 0
    assert abs(y.gap) < 0.005
    assert not y.reasons()


def test_map_holds_the_bits_at_their_places() -> None:
    net = tiny_net(MODEL)
    image = photo(128, 128)
    image.pixels[:, :, 64:] = 0.5
    bits = image_bits(net, image, model=MODEL)
    for latent in bits.latents:
        bit_map = bits.maps[latent.name]
        assert bit_map.values.sum() * bit_map.step**2 == pytest.approx(latent.estimated, rel=1e-5)
    values = bits.maps["y"].values
    assert values.shape == (8, 8)
    assert values[:, :3].mean() > 1.2 * values[:, 5:].mean()


def test_tiles_add_up() -> None:
    net = tiny_net(MODEL)
    image = photo(130, 200)
    options = {"model": MODEL, "tile": 128, "tile_overlap": 0}
    bits = image_bits(net, image, **options)
    assert bits.coded is not None
    assert len(bits.coded.tiles) == 4
    assert bits.coded == encode_image(net, image, **options)
    assert bits.maps["y"].values.shape == (9, 13)
    assert (bits.maps["y"].values > 0).all()
    assert [latent.strings for latent in bits.latents] == [4, 4]


@pytest.mark.parametrize("prepared", [False, True])
def test_channel_without_weights_is_dead(prepared: bool) -> None:
    net = tiny_net(MODEL)
    last = [module for module in net.g_a.modules() if isinstance(module, nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight[2] = 0
        last.bias[2] = 0.1
    if prepared:
        net = prepare(net, "fp32")
    y, z = image_bits(net, photo(256, 256), model=MODEL).latents
    assert y.dead == [2]
    assert z.dead == []


def test_quantiles_are_solved_or_not() -> None:
    net = small_net("bmshj2018-factorized")
    (fresh,) = health_of(net).quantiles
    assert len(fresh.unsolved) == fresh.channels == len(net.entropy_bottleneck.cdf_length)
    assert fresh.auxiliary_loss == pytest.approx(net.aux_loss().item())
    net.update(force=True, update_quantiles=True)
    (solved,) = health_of(net).quantiles
    assert not solved.unsolved
    assert solved.most_outside < 1e-6
    assert solved.auxiliary_loss < fresh.auxiliary_loss / 100
    assert 0 < solved.symbols[0] <= solved.symbols[1]


def test_source_of_what_is_not_finite_is_named() -> None:
    net = tiny_net(MODEL)
    convolutions = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d)]
    name = [n for n in convolutions if n.startswith("h_a.")][1]
    with torch.no_grad():
        net.get_submodule(name).weight[0, 0] = float("nan")
    bits = image_bits(net, photo(), model=MODEL)
    assert bits.coded is None
    assert bits.not_finite == f"{name} (Conv2d)"
    assert health_of(net).not_finite == (f"{name}.weight",)
    nested = {"epoch": 1, "state_dict": net.state_dict()}
    assert weights_not_finite(nested) == [f"state_dict.{name}.weight"]


def test_equal_settings_do_not_differ_and_others_differ_where_they_do() -> None:
    net, twin = tiny_net(MODEL), tiny_net(MODEL)
    image = photo()

    def run(net: nn.Module):
        return lambda **asked: run_model(net, image, **asked)

    same = compare_runs(run(net), run(twin))
    assert same.modules > 20
    assert (same.differing, same.module, same.pixels, same.crossed_pixels) == (0, "", 0, 0)
    assert same.strings_equal
    assert same.crossed_y_hat_equal
    with torch.no_grad():
        twin.g_s[2].bias += 0.25
    later = compare_runs(run(net), run(twin))
    assert (later.stage, later.module) == ("decode", "g_s.2")
    assert later.largest == pytest.approx(0.25, rel=1e-3)
    assert later.strings_equal
    assert later.y_hat_equal
    with torch.no_grad():
        twin.g_a[0].bias += 0.25
    sooner = compare_runs(run(net), run(twin))
    assert (sooner.stage, sooner.module, sooner.call) == ("encode", "g_a.0", 0)
    assert not sooner.strings_equal
    # What was coded by one is decoded by the other, whose entropy path is the same.
    assert sooner.crossed_y_hat_equal


def test_prepared_transforms_are_looked_into() -> None:
    net = tiny_net(MODEL)
    run = run_model(prepare(net, "fp32"), photo())
    assert any(name.startswith("g_a.") for _, name, _ in run.hashes)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with alone_in(tmp_path, monkeypatch) as folder:
        save_photo()
        yield folder


def save_net(net: nn.Module, path: str = "net.safetensors") -> None:
    from tiny_nets import SIZES

    save_checkpoint(path, net, architecture=MODEL, arguments=SIZES[MODEL], metric="mse")


def test_program_tells_the_same_as_data_and_as_text(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    save_net(tiny_net(MODEL))
    arguments = ["explain", "photo.png", "--checkpoint", "net.safetensors", "--precision", "fp32"]
    run = program(capsys)
    more = ("--json", "--plot", "bits.png", "--against", "precision=bf16")
    status, out, _ = run(*arguments, *more)
    assert status == 0
    report = json.loads(out)
    assert report["model"] == MODEL
    assert [latent["name"] for latent in report["latents"]] == ["y", "z"]
    y = report["latents"][0]
    assert sum(y["channel_bits"]) == pytest.approx(y["estimated_bits"])
    assert y["real_bits"] == pytest.approx(y["table_bits"] + y["told_bits"] + y["end_bits"])
    assert report["against"]["setting"] == {"precision": "bf16"}
    assert report["against"]["strings_equal"] is True
    assert report["first_not_finite"] is None
    assert Path("bits.png").read_bytes().startswith(b"\x89PNG")

    _, text, _ = run(*arguments)
    assert f"file: {report['file_bits'] / 8:.0f} bytes" in text
    for wanted in (f"{y['estimated_bits']:.0f}", "dearest channels", "auxiliary loss"):
        assert wanted in text
    assert max(map(len, text.splitlines())) <= 80


def test_program_names_weights_that_are_no_numbers(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = tiny_net(MODEL)
    with torch.no_grad():
        net.g_a[0].weight[0] = float("inf")
    save_net(net)
    arguments = ["explain", "photo.png", "--checkpoint", "net.safetensors"]
    run = program(capsys)
    status, out, _ = run(*arguments)
    assert status == 1
    assert "g_a.0.weight" in out
    status, out, _ = run(*arguments, "--json")
    assert status == 1
    assert json.loads(out)["weights_not_finite"] == ["g_a.0.weight"]


@pytest.mark.parametrize("word", ["threads=0", "threads", "speed=2", "precision=fp8"])
def test_program_refuses_unknown_settings(
    photos: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    status, _, err = program(capsys)("explain", "photo.png", "--against", word)
    assert status == 2
    assert "--against" in err


def test_maps_of_nothing_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    net = tiny_net(MODEL)
    with torch.no_grad():
        net.g_a[0].weight[0] = float("nan")
    image = photo()
    with pytest.raises(ValueError, match="not coded"):
        save_maps(tmp_path / "bits.png", image, image_bits(net, image, model=MODEL))
    with pytest.raises(ValueError, match="suffix"):
        save_maps(tmp_path / "bits.gif", image, image_bits(net, image, model=MODEL))
