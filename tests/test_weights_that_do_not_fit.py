# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Weights with parts missing, mixed or of another family: one error that tells what was found and
what was expected, and nothing is loaded."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from authors_layouts import authors_state_dict, net_of
from torch import Tensor, nn

from compressai.convert import convert_checkpoint, sources
from compressai.registry import ENTRIES

LATEST = ("tcm-auxt", "dcae", "saaf", "mlicpp", "hpcm-base", "mambavc", "mambaic")


def small(name: str) -> nn.Module:
    entry = ENTRIES[name]
    return entry.model(**{**entry.arguments, **entry.small}).eval()


@pytest.fixture(scope="module")
def nets() -> dict[str, nn.Module]:
    names = (*LATEST, "mlic", "mlicplus", "mlicv2")
    return {name: small(name) for name in names}


def refusal(net: nn.Module, weights: dict[str, Tensor]) -> str:
    """What building a model from weights says; it has to be one sentence of ours."""
    with pytest.raises((ValueError, RuntimeError)) as building:
        type(net).from_state_dict(weights)
    said = str(building.value)
    assert type(net).__name__ in said
    assert "\n" not in said
    assert "Missing key" not in said
    assert len(said) < 1000
    return said


def without(weights: dict[str, Tensor], *parts: str) -> dict[str, Tensor]:
    left = {key: value for key, value in weights.items() if not any(p in key for p in parts)}
    assert len(left) < len(weights)
    return left


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(LATEST, 2)))
def test_another_family(nets: dict[str, nn.Module], name: str, other: str) -> None:
    refusal(nets[name], nets[other].state_dict())


@pytest.mark.parametrize(
    ("name", "other"),
    # MLIC+ and MLIC++ have the same names and shapes, and differ in what they do with them.
    [
        pair
        for pair in itertools.permutations(("mlic", "mlicplus", "mlicpp", "mlicv2"), 2)
        if set(pair) != {"mlicplus", "mlicpp"}
    ],
)
def test_another_member_of_the_family(nets: dict[str, nn.Module], name: str, other: str) -> None:
    said = refusal(nets[name], nets[other].state_dict())
    assert re.search(r"it has no '[\w.]+', but|found \d+ entries, expected the \d+", said)


@pytest.mark.parametrize(
    ("name", "parts", "told"),
    [
        ("tcm-auxt", ["g_s.auxiliary"], "missing g_s.auxiliary_layers.0.scaling_factors and 11"),
        ("tcm-auxt", [".auxiliary"], "no 'g_a.auxiliary_layers.*'"),
        ("tcm-auxt", ["g_a.auxiliary_layers.2.scaling"], "g_a.auxiliary_layers.2.scaling_factors"),
        ("tcm-auxt", [".olp."], "missing g_a.auxiliary_layers.0.olp.linear.weight and 7 more"),
        ("dcae", ["shared_dictionary"], "no 'shared_dictionary.dt'"),
        ("dcae", ["relative_position_params"], "no 'g_a.1.layers.0.msa.relative_position_params'"),
        ("dcae", ["y2.cross_attention.k."], "missing latent_codec.y.channel_context.y2.cross_att"),
        ("saaf", ["shared_dictionary"], "no 'shared_dictionary.dt'"),
        ("saaf", ["bias_table"], "no 'g_a.1.layers.0.msa.relative_position_bias_table'"),
        ("saaf", ["aux_dec.1.olp"], "missing aux_dec.1.olp.linear.weight and 1 more of aux_dec"),
        ("mlicpp", ["global_inter_part"], "global_inter_part"),
        (
            "hpcm-base",
            ["prior_s3"],
            "latent_codec.y.prior_s3.branch_2 has 0 layers beside its blocks",
        ),
        ("hpcm-base", ["pconv"], "not of HPCM"),
        ("hpcm-base", ["adaptor_s3.4"], "missing latent_codec.y.adaptor_s3.4."),
    ],
)
def test_missing_parts(nets: dict[str, nn.Module], name: str, parts: list[str], told: str) -> None:
    assert told in refusal(nets[name], without(nets[name].state_dict(), *parts))


def test_mixed_layouts_of_a_wavelet_branch(nets: dict[str, nn.Module]) -> None:
    weights = nets["tcm-auxt"].state_dict()
    authors = {
        f"AuxT_enc.0.{k}": weights[f"g_a.auxiliary_layers.0.{k}"] for k in ("scaling_factors",)
    }
    with pytest.raises(ValueError, match=r"another entry .* 'g_a\.auxiliary_layers\.0\.scaling"):
        type(nets["tcm-auxt"]).from_state_dict({**weights, **authors})
    said = refusal(nets["tcm-auxt"], {**weights, "g_s.0.further": torch.zeros(1)})
    assert said.endswith("; unexpected g_s.transform.0.further")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("tcm-auxt", "g_a.transform.1.trans_block.msa.attn.relative_position_bias_table"),
        ("dcae", "latent_codec.y.channel_context.y0.mean_cc.0.weight"),
        ("dcae", "latent_codec.h_a.0.conv.weight"),
        ("mlic", "latent_codec.y.latent_codec.y0.spatial_context_nonanchor.context.0.weight"),
        (
            "mlicplus",
            "latent_codec.y.latent_codec.y0.spatial_context_nonanchor.relative_position_index",
        ),
        ("hpcm-base", "g_a.0.weight"),
        ("mambavc", "g_a.1.op.A_logs"),
        ("mambaic", "latent_codec.y.cc_mean_transforms.0.0.weight"),
    ],
)
@pytest.mark.parametrize("shape", [(), (0,), (1, 1)])
def test_sizes_of_other_dimensions_are_refused(
    nets: dict[str, nn.Module], name: str, key: str, shape: tuple[int, ...]
) -> None:
    weights = nets[name].state_dict()
    assert key in weights
    with pytest.raises((ValueError, RuntimeError)) as building:
        type(nets[name]).from_state_dict({**weights, key: torch.zeros(shape)})
    assert "\n" not in str(building.value)


def test_other_shapes_are_told(nets: dict[str, nn.Module]) -> None:
    weights = nets["dcae"].state_dict()
    key = "latent_codec.y.channel_context.y1.cross_attention.k.weight"
    said = refusal(nets["dcae"], {**weights, key: weights[key][:3]})
    assert f"{key} is (3, {weights[key].size(1)}), expected {tuple(weights[key].shape)}" in said


@pytest.mark.parametrize("name", ["tcm-auxt", "dcae", "mlicpp", "hpcm-base"])
def test_nothing_is_loaded(name: str) -> None:
    net = small(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    weights = {key: value + 1 for key, value in before.items()}
    last = next(key for key in reversed(weights) if key.endswith("weight"))
    del weights[last]
    with pytest.raises(RuntimeError, match=f"missing {re.escape(last)}$"):
        net.load_state_dict(weights)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in before.items())
    # Who wants parts says so.
    assert net.load_state_dict(weights, strict=False).missing_keys == [last]


@pytest.mark.parametrize(
    ("source", "parts", "told"),
    [
        ("tcm-auxt", ["AuxT_dec."], "g_s.auxiliary_layers"),
        ("tcm-auxt", ["OLP."], "olp.linear"),
        ("dcae", ["dt_cross_attention.1."], "cross_attention"),
        ("mlicpp", ["global_intra_context.1."], "intra_channel_context_nonanchor"),
        ("hpcm", ["y_spatial_prior_adaptor_list_s2.1."], "adaptor_s2"),
    ],
)
def test_files_of_the_authors_programs(
    tmp_path: Path, source: str, parts: list[str], told: str
) -> None:
    name: Any = {"hpcm": "hpcm-base"}.get(source, source)
    assert name in sources() or source in sources()
    name = name if name in sources() else source
    weights = without(authors_state_dict(name, net_of(name)), *parts)
    torch.save(weights, tmp_path / "theirs.pth")
    with pytest.raises(ValueError, match="cannot be converted") as refused:
        convert_checkpoint(tmp_path / "theirs.pth", name)
    assert re.search(rf"missing \S*{re.escape(told)}", str(refused.value))
    assert "\n" not in str(refused.value)
