# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Timing a model takes nothing from it: the parts add up, and the model is as it was."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_nets import tiny_net

from compressai import model_choice
from compressai.bitstream import ImageData, encode_image
from compressai.cli import main
from compressai.evaluation import measure_speed
from compressai.evaluation.speed import FILE, REST
from compressai.inference import prepare

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def sample():
    generator = torch.Generator().manual_seed(0)
    return ImageData(torch.rand(3, 70, 90, generator=generator))


def timed_attributes(net):
    """What the clocks take the place of while they run."""
    names = ("compress", "decompress", "g_a", "g_s", "h_a", "h_s")
    return [{name: vars(module).get(name) for name in names} for module in net.modules()]


@pytest.mark.parametrize("model", ["mbt2018-mean", "bmshj2018-factorized", "elic2022-official"])
@pytest.mark.parametrize("prepared", [False, True])
def test_stages_add_up_and_leave_the_model_alone(model, prepared, sample):
    net = tiny_net(model)
    if prepared:
        net = prepare(net, "fp32")
    before = encode_image(net, sample, model=model).to_bytes()
    attributes = timed_attributes(net)
    speed = measure_speed(net, sample, model=model, repeats=1)
    assert timed_attributes(net) == attributes
    assert encode_image(net, sample, model=model).to_bytes() == before
    assert speed.bytes == len(before)
    for times, transform in ((speed.encode, "g_a"), (speed.decode, "g_s")):
        assert {transform, REST, FILE} <= set(times.stages)
        assert sum(times.stages.values()) == pytest.approx(times.median)
        assert min(times.stages.values()) >= 0
        assert times.images_per_second == pytest.approx(1 / times.median)
    assert speed.peak_memory > 2**20
    with pytest.raises(ValueError, match="repeats"):
        measure_speed(net, sample, model=model, repeats=0)


def test_clocks_go_even_when_coding_fails(sample):
    net = tiny_net("mbt2018-mean")
    attributes = timed_attributes(net)
    with pytest.raises(ValueError, match="pixels"):
        measure_speed(net, ImageData(torch.zeros(3, 0, 0)), model="mbt2018-mean")
    net.g_s.forward = lambda y: 1 / 0
    with pytest.raises(ZeroDivisionError):
        measure_speed(net, sample, model="mbt2018-mean")
    assert timed_attributes(net) == attributes


def test_bench_prints_a_table_or_json(sample, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        model_choice.image_models,
        "mbt2018-mean",
        lambda quality, metric="mse", pretrained=False: tiny_net("mbt2018-mean"),
    )
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    sample.to_image().save(tmp_path / "a.png")
    command = ["bench", str(tmp_path / "a.png"), "--model", "mbt2018-mean", "--repeats", "1"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--json", "--threads", "1"])
    assert not stop.value.code
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert "RANDOM" in err
    assert (report["width"], report["height"], report["threads"]) == (90, 70, 1)
    assert report["encode"]["stages"]["g_a"] <= report["encode"]["seconds"]
    with pytest.raises(SystemExit):
        main(command)
    out, _ = capsys.readouterr()
    assert "images/s" in out
    assert "peak memory" in out
