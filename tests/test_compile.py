# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Networks that compilers see whole: no graph breaks in transforms, hyper transforms and heads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from slice_nets import small_net
from tiny_nets import one_thread

from compressai.models import CompressionModel


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.mark.parametrize("name", ["stf", "wacnn"])
def test_networks_compile_without_graph_breaks(name: str) -> None:
    net: CompressionModel = small_net(name)
    codec = net.latent_codec
    slices = codec.y
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        y = net.g_a(x)
        z = codec.h_a(y)
        side = codec.h_s(z)
        networks = {
            "g_a": (net.g_a, x),
            "g_s": (net.g_s, y),
            "h_a": (codec.h_a, y),
            "h_s": (codec.h_s, z),
            "head": (slices.channel_context["y1"], torch.cat((side, y[:, : slices.groups[0]]), 1)),
        }
        for part, (network, value) in networks.items():
            torch.compiler.reset()
            compiled = torch.compile(network, fullgraph=True, backend="eager")
            assert torch.equal(compiled(value), network(value)), part
