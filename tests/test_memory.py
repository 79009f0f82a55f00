# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How much memory coding takes: hardly more than the larger of the transforms alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from slice_nets import small_net
from tiny_nets import one_thread, tiny_net
from torch import Tensor, nn

from compressai.bitstream import ImageData, decode_image, encode_image
from compressai.inference import prepare
from compressai.models import MeanScaleHyperprior
from compressai.models.lite import Lite

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    with one_thread():
        yield


def peak(function: Callable[[], Any]) -> int:
    from _memory import peak_tensor_memory

    return peak_tensor_memory(function)


def test_tensors_in_the_layout_of_onednn_count() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    x = torch.rand(1, 8, 16, 16)
    with torch.inference_mode():
        assert peak(lambda: x.to_mkldnn().relu_().to_dense()) == 2 * x.nbytes


def test_memory_counts_what_lives_at_the_same_time() -> None:
    given = torch.zeros(1000)

    def two_at_a_time() -> Tensor:
        x = given + 1
        x = x * 2  # both live here
        return x.add_(1).view(10, 100)[0]

    assert peak(two_at_a_time) == 8000
    assert peak(lambda: given.view(10, 100).relu_()) == 0
    assert peak(lambda: given[:10].clone()) == 40


def net_of(name: str) -> nn.Module:
    """Models whose transforms take much more than the image, as those of the zoo do."""
    if name == "lite":
        torch.manual_seed(0)
        net = Lite().eval()
    elif name == "mbt2018-mean":
        net = MeanScaleHyperprior(16, 24).eval()
    else:
        net = small_net(name)
    net.update()
    return net


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", ["mbt2018-mean", "stf", "wacnn", "tcm", "cca", "lite"])
def test_coding_takes_little_more_memory_than_a_transform(name: str, prepared: bool) -> None:
    net = net_of(name)
    side = getattr(net, "downsampling_factor", 64)
    x = torch.rand(1, 3, side, 2 * side)
    coder = prepare(net, "fp32") if prepared else net
    coded = coder.compress(x)
    with torch.inference_mode():
        y = coder.g_a(x)
        larger = max(peak(lambda: coder.g_a(x)), peak(lambda: coder.g_s(y)))
    # The latent of lite has two values a pixel, a sixth of what its transforms need at once.
    most = (1.5 if name == "lite" else 1.2) * larger
    assert peak(lambda: coder.compress(x)) <= most
    assert peak(lambda: coder.decompress(coded["strings"], coded["shape"])) <= most


@pytest.mark.parametrize("name", ["mbt2018-mean", "elic2022-official"])
def test_coding_makes_no_copies_of_models_and_no_graph(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny_net(name)
    fast = prepare(net)
    monkeypatch.setattr(copy, "deepcopy", lambda *_: pytest.fail("deepcopy"))
    monkeypatch.setattr(nn.Module, "to", lambda *_, **__: pytest.fail("a module moved"))
    seen = []
    for part, module in fast.named_modules():
        if part.rpartition(".")[2] in ("h_a", "h_s"):
            module.register_forward_hook(lambda _, _args, out: seen.append(out.requires_grad))
    coded = fast.compress(torch.rand(1, 3, 64, 64, requires_grad=True))
    out = fast.decompress(coded["strings"], coded["shape"])
    assert seen == [False] * 3
    assert not out["x_hat"].requires_grad


@pytest.mark.parametrize("name", ["mbt2018-mean", "lite"])
def test_memory_is_that_of_one_tile_however_many_there_are(name: str) -> None:
    """Of one worker, whose tensors are counted; each further one holds a tile more.

    The image itself is an array of NumPy by then, which is not counted.
    """
    net = net_of(name)
    encoding, decoding = set(), set()
    for height, tiles in ((128, 2), (320, 6)):
        sample = ImageData(torch.rand(3, height, 224))
        encode = partial(encode_image, net, sample, model=name, tile=128, workers=1)
        coded = encode()
        assert len(coded.tiles) == tiles
        encoding.add(peak(encode))
        decoding.add(peak(partial(decode_image, net, coded, workers=1)))
    assert len(encoding) == len(decoding) == 1
    assert max(encoding | decoding) < 0.8 * peak(partial(encode, tile=None))
