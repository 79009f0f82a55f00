# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which weights ``compressai encode`` and ``decode`` take, and what they say about them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from program import files, pixels
from tiny_nets import tiny_net

import compressai
from compressai import model_choice
from compressai.bitstream import CodedImage, decode_image, read_coded
from compressai.zoo import weights as zoo_weights
from compressai.zoo.weights import published_weights

pytestmark = pytest.mark.usefixtures("folder")


def test_random_weights_are_told_loudly_flagged_and_made_again(run, photo):
    arguments = ["--model", "bmshj2018-factorized", "-q", "1"]
    status, out, err = run("encode", "photo.png", *arguments, "--json")
    assert status == 0
    assert "RANDOM" in err
    assert json.loads(out)["random_weights"] is True
    assert read_coded("photo.cai").random_weights
    torch.manual_seed(99)  # of no influence
    # As below; bfloat16 gives slightly other samples.
    status, _, err = run("decode", "photo.cai", "-o", "back.png", "--precision", "fp32")
    assert status == 0
    assert "RANDOM" in err
    chosen = model_choice.choose_model("bmshj2018-factorized", 1, "mse", None)
    expected = decode_image(chosen.net, read_coded("photo.cai")).to_image()
    assert np.array_equal(pixels("back.png"), np.asarray(expected))


def test_choosing_random_weights_leaves_the_callers_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model_choice.choose_model("bmshj2018-factorized", 1, "mse", None)
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture
def published(folder, monkeypatch):
    """A weights folder with tiny weights under the name that a hash asks for."""
    model = "bmshj2018-factorized"
    home = folder / "weights"
    home.mkdir()
    draft = home / "draft"
    torch.save(tiny_net(model).state_dict(), draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    path = draft.rename(home / f"tiny-1-{digest[:8]}.pth.tar")
    table = {model: {"mse": {"1": path.name}}}
    monkeypatch.setattr(zoo_weights, "published_weights", lambda: table)
    return path


def test_published_weights_are_used_where_they_are_at_hand(run, photo, published):
    arguments = ["--model", "bmshj2018-factorized", "-q", "1"]
    assert run("encode", "photo.png", *arguments)[::2] == (0, "")
    coded = read_coded("photo.cai")
    assert (coded.random_weights, coded.quality, coded.metric) == (False, 1, "mse")
    assert run("decode", "photo.cai", "-o", "back.png")[::2] == (0, "")
    published.unlink()
    status, _, err = run("decode", "photo.cai", "-o", "again.png")
    assert status == 1
    assert published.name in err
    assert files() == ["back.png", "photo.cai", "photo.png", "weights"]


def test_damaged_published_weights_are_an_error_not_random_ones(run, photo, published):
    published.write_bytes(published.read_bytes()[:-1] + b"x")
    status, out, err = run("encode", "photo.png", "--model", "bmshj2018-factorized", "-q", "1")
    assert (status, out) == (1, "")
    assert "damaged" in err
    assert "RANDOM" not in err
    assert files() == ["photo.png", "weights"]


def test_every_published_model_is_one_of_the_zoo():
    assert set(published_weights()) <= set(compressai.zoo.models) | {
        *("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr", "ssf2020")
    }


def test_other_weights_than_those_of_the_encoder_are_refused(run, photo, checkpoints):
    run("encode", "photo.png", "--checkpoint", checkpoints / "0.safetensors")
    wrong = ["-o", "back.png", "--checkpoint", checkpoints / "1.safetensors"]
    status, out, err = run("decode", "photo.cai", *wrong)
    assert (status, out) == (1, "")
    assert "made with other weights" in err
    status, _, err = run("decode", "photo.cai", "-o", "back.png")
    assert status == 1
    assert "name that file with --checkpoint" in err
    assert files() == ["photo.cai", "photo.png"]


def test_model_that_contradicts_the_checkpoint_is_refused(run, photo, checkpoint):
    status, _, err = run("encode", "photo.png", "--checkpoint", checkpoint, "--model", "mbt2018")
    assert status == 1
    assert "must be 'mbt2018-mean'" in err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "os.system", "quality": 1}, "does not know"),
        ({"quality": 77}, "names weights that do not exist"),
        ({"quality": 3}, "pretrained weights mbt2018-mean-3"),
    ],
)
def test_models_that_a_file_names_need_not_exist(run, photo, checkpoints, changes, message):
    run("encode", "photo.png", "--checkpoint", checkpoints / "0.safetensors")
    coded = vars(read_coded("photo.cai")) | changes
    Path("photo.cai").write_bytes(CodedImage(**coded).to_bytes())
    status, _, err = run("decode", "photo.cai", "-o", "back.png")
    assert status == 1
    assert message in err
    if "model" in changes:
        weights = checkpoints / "weights.pth"
        status, _, err = run("decode", "photo.cai", "-o", "back.png", "--checkpoint", weights)
        assert status == 1
        assert message in err
