# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models with a learned dictionary: published sizes, authors' layouts, training, coding.

What all channel-slice models have in common is in ``test_models.py``, equality with the authors'
programs in ``test_golden.py``.
"""

from __future__ import annotations

import copy
import gzip
import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from operations import operations
from slice_nets import small_net
from torch import Tensor, nn

from compressai.layers import attn
from compressai.models._helpers.dictionary_context import (
    SharedDictionary,
    build_dictionary_mean_scale_head,
)
from compressai.models.dcae import DCAE, convert_upstream_dcae_state_dict
from compressai.models.saaf import SAAF
from compressai.models.tcm import TCM
from compressai.registry import MODELS
from compressai.training.regularizers import add_regularizers

KEYMAPS: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "tables/dictionary_keymaps.json.gz").read_bytes())
)
FULL_SIZE: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "dcae": (DCAE, {}),
    "saaf": (SAAF, {}),
    "tcm_auxt_64": (TCM, {"N": 64, "use_auxt": True}),
}
DICTIONARY_MODELS = ("dcae", "saaf")

pytestmark = pytest.mark.usefixtures("one_torch_thread")
every = pytest.mark.parametrize("name", DICTIONARY_MODELS)
full_size = pytest.mark.parametrize("name", FULL_SIZE)


def _image(height: int = 64, width: int = 64) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height))


@cache
def _on_meta(name: str) -> nn.Module:
    cls, arguments = FULL_SIZE[name]
    with torch.device("meta"):
        return cls(**arguments)


def _theirs(name: str) -> dict[str, Tensor]:
    return {
        original: torch.empty(shape, device="meta")
        for original, _, _, shape, _ in KEYMAPS[name]["rows"]
        if original is not None
    }


def _ours(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for _, keys, shape, _, _ in KEYMAPS[name]["rows"] for key in keys}


@full_size
def test_full_size_model_has_the_published_names_shapes_and_counts(name: str) -> None:
    net = _on_meta(name)
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == _ours(name)
    added = sum(
        torch.Size(shape).numel()
        for original, keys, shape, _, _ in KEYMAPS[name]["rows"]
        if original is None and not keys[0].endswith("relative_position_index")
    )
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == KEYMAPS[name]["parameters"] + added


def test_full_size_models_have_the_published_number_of_operations() -> None:
    with torch.device("meta"):
        dcae, saaf = DCAE(), SAAF()
        branch, plain = (TCM(N=64, use_auxt=use_auxt) for use_auxt in (True, False))
    assert operations(dcae) == 966683.6328125
    # The table of SAAF has no products inside windows, and none of what is for training only.
    sides = (*zip((96, 144, 256), (1, 2, 12), (2, 4, 8)),) * 2
    inside = sum(2 * 8**2 * width * blocks / side**2 for width, blocks, side in sides)
    inside += 3 * 2 * 4**2 * 192 / 32**2
    assert operations(saaf, "diffusion_prior") - inside == 958198.1328125
    # The authors' wavelets are convolutions of 2x2, four bands of 3, 128, 128 and 128 channels.
    wavelets = 2 * sum(4 * 4 * width / 4**k for k, width in enumerate((3, 128, 128, 128), start=1))
    added = operations(branch) - operations(plain)
    assert added + wavelets == 572269.09375 - 559621.09375


@full_size
@pytest.mark.parametrize("prefix", ["", "module."])
def test_full_size_weights_of_the_authors_find_their_places(name: str, prefix: str) -> None:
    cls, _ = FULL_SIZE[name]
    converted = cls.convert({prefix + key: value for key, value in _theirs(name).items()})
    optional = (".relative_position_index", ".global_alpha")
    got = {key: tuple(value.shape) for key, value in converted.items()}
    wanted = {
        key: shape
        for key, shape in _ours(name).items()
        if key in converted or not key.endswith(optional)
    }
    assert got == wanted
    assert cls.convert(converted).keys() == converted.keys()
    with torch.device("meta"):
        inferred = cls(**cls.infer_arguments(converted))
    net = _on_meta(name)
    for size, value in vars(net).items():
        if not size.startswith("_") and size not in ("training", "max_support_slices"):
            assert getattr(inferred, size) == value, size


@every
def test_sizes_are_read_off_weights(name: str) -> None:
    net = small_net(name)
    other = type(net).from_state_dict(net.state_dict())
    for size in (
        *("head_dim", "feature_dims", "block_num", "N", "M", "hyper_channels", "num_slices"),
        *("max_support_slices", "dict_num", "dict_head_num", "dictionary_dim", "window_size"),
        *("hyper_window_size", "hyper_head_dim"),
    ):
        assert getattr(other, size) == getattr(net, size), size


@every
def test_dictionary_is_listed_once_and_goes_with_copies(name: str) -> None:
    net = small_net(name)
    assert [key for key in net.state_dict() if key.endswith("dt")] == ["shared_dictionary.dt"]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        heads = other.latent_codec.y.channel_context.values()
        owners = {head.dictionary_provider.__self__ for head in heads}
        assert owners == {other.shared_dictionary}
        assert other.shared_dictionary is not net.shared_dictionary


@every
@pytest.mark.parametrize("sync_safe", [False, True])
def test_coding_gives_the_encoders_latent(name: str, sync_safe: bool) -> None:
    net = small_net(name)
    # 192 x 64: no stage of the transforms or hyper transforms fits its windows.
    coded = net.compress(_image(192, 64), sync_safe=sync_safe)
    decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=sync_safe)
    assert torch.equal(decoded["y_hat"], coded["y_hat"])
    assert decoded["x_hat"].shape == (1, 3, 192, 64)


@every
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("head_dim", (8,) * 5, "head_dim must have 6 entries"),
        ("feature_dims", (16, 24), "feature_dims must have 3 entries"),
        ("block_num", (1, 1, 1, 1), "block_num must have 3 entries"),
        ("block_num", (1, -1, 1), "block_num must not be negative"),
        ("head_dim", (8, 5, 8, 4, 8, 4), "head_dim must divide 24"),
        ("hyper_head_dim", 3, "head_dim must divide 16"),
        ("dict_head_num", 5, "head_num must divide dictionary_dim"),
        ("dict_num", 0, "dict_num"),
        ("num_slices", 3, "M must be divisible by num_slices"),
    ],
)
def test_impossible_sizes_are_named(name: str, argument: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_net(name, **{argument: value})


@every
def test_weights_without_a_dictionary_are_refused(name: str) -> None:
    net = small_net(name)
    weights = net.state_dict()
    del weights["shared_dictionary.dt"]
    with pytest.raises(ValueError, match=r"not of .*shared_dictionary\.dt"):
        type(net).from_state_dict(weights)


@every
def test_model_is_registered(name: str) -> None:
    assert MODELS[name] is FULL_SIZE[name][0]


class TestSAAF:
    def test_denoising_loss_is_for_training_only(self) -> None:
        net = small_net("saaf")
        out = net(_image())
        assert out["diffusion_loss"].dim() == 0
        assert float(out["diffusion_loss"]) == 0
        trained = net.train()(_image())["diffusion_loss"]
        assert trained.dim() == 0
        assert trained.item() > 0

    def test_training_adds_the_denoising_loss_with_its_weight(self) -> None:
        net = small_net("saaf").train()
        out, losses = {"diffusion_loss": torch.tensor(3.0)}, {"loss": torch.tensor(2.0)}
        orthogonal = 2 + 0.1 * net.ortho_loss()
        assert net.diffusion_weight == 0.1
        for weight in (0.1, 0.5, 0.0):
            net.diffusion_weight = weight
            found = add_regularizers(losses, out, net)
            torch.testing.assert_close(found["loss"], orthogonal + 3 * weight)
            assert ("diffusion_loss" in found) == (weight > 0)

    def test_auxiliary_loss_holds_that_of_the_projections(self) -> None:
        net = small_net("saaf")
        bottleneck = net.latent_codec.z.entropy_bottleneck.loss()
        torch.testing.assert_close(net.aux_loss(), bottleneck + net.ortho_loss())
        assert net.ortho_loss().item() > 0

    @pytest.mark.parametrize("name", ["global_alpha", "relative_position_index"])
    def test_constants_may_be_absent(self, name: str) -> None:
        net = small_net("saaf")
        weights = {k: v for k, v in net.state_dict().items() if not k.endswith(f".{name}")}
        again = SAAF.from_state_dict(weights).eval()
        assert torch.equal(again(_image())["x_hat"], net(_image())["x_hat"])

    def test_branch_goes_with_copies_and_conversions(self) -> None:
        net = small_net("saaf")
        alone = copy.deepcopy(net.g_a)
        assert alone.branch is not net.aux_enc
        alone.double()
        assert alone(_image().double()).dtype == torch.float64
        assert {p.dtype for p in net.parameters()} == {torch.float32}
        other = pickle.loads(pickle.dumps(net))
        assert other.g_a.branch is other.aux_enc
        assert other.g_s.branch is other.aux_dec

    def test_blind_part_of_the_synthesis_branch_changes_nothing(self) -> None:
        block = small_net("saaf").aux_dec[0]
        x = torch.rand(1, 32, 4, 4)
        want = block(x)
        torch.testing.assert_close(block.train()(x), want)

    def test_weights_of_dcae_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"not of SAAF: it has no 'aux_enc\."):
            SAAF.from_state_dict(small_net("dcae").state_dict())


class TestConverter:
    def test_scales_and_means_change_places_in_four_weights_of_a_slice(self) -> None:
        M, rest = 80, 7
        numbers = torch.arange(2.0 * M + rest).view(1, -1, 1, 1)
        theirs = {
            "dt": torch.zeros(4, 8),
            "h_a.0.conv.weight": torch.zeros(64, M, 5, 5),
            "dt_cross_attention.1.x_trans.weight": numbers.view(1, -1),
            "dt_cross_attention.1.x_trans.bias": numbers.flatten(),
            "cc_mean_transforms.0.0.weight": numbers,
            "cc_mean_transforms.1.0.weight": numbers,
            "cc_mean_transforms.1.2.weight": numbers,
            "cc_scale_transforms.1.0.weight": numbers,
            "lrp_transforms.1.0.weight": numbers,
            "gaussian_conditional.scale_table": torch.zeros(3),
            "h_z_s1.0.weight": torch.tensor(1.0),
            "h_z_s2.0.weight": torch.tensor(2.0),
        }
        ours = convert_upstream_dcae_state_dict(theirs)
        swapped = [*range(M, 2 * M), *range(M), *range(2 * M, 2 * M + rest)]
        head, leaf = "latent_codec.y.channel_context.y1.", "latent_codec.y.latent_codec.y1."
        for key in (
            *(f"{head}cross_attention.x_trans.weight", f"{head}mean_cc.0.weight"),
            *(f"{head}scale_cc.0.weight", f"{leaf}lrp_transform.0.weight"),
        ):
            assert ours[key].flatten().tolist() == swapped, key
        for key in (f"{head}cross_attention.x_trans.bias", f"{head}mean_cc.2.weight"):
            assert ours[key].flatten().tolist() == numbers.flatten().tolist(), key
        for k in (0, 1):
            name = f"latent_codec.y.latent_codec.y{k}.gaussian_conditional.scale_table"
            assert name in ours
        assert ours["latent_codec.h_s.h_scale_s.0.weight"] == 1
        assert ours["latent_codec.h_s.h_mean_s.0.weight"] == 2
        again = convert_upstream_dcae_state_dict(ours)
        assert all(torch.equal(again[key], value) for key, value in ours.items())

    def test_parts_that_tell_no_sizes_are_refused(self) -> None:
        theirs = {"dt": torch.zeros(4, 8), "dt_cross_attention.0.scale": torch.ones(1, 1, 1)}
        with pytest.raises(ValueError, match="cc_mean_transforms"):
            convert_upstream_dcae_state_dict(theirs)
        theirs["cc_mean_transforms.0.0.weight"] = torch.zeros(1, 9, 3, 3)
        with pytest.raises(ValueError, match="width of the latent"):
            convert_upstream_dcae_state_dict(theirs)


class TestHead:
    def test_dictionary_is_a_view(self) -> None:
        dictionary = SharedDictionary(16, 64)
        assert list(dictionary.state_dict()) == ["dt"]
        view = dictionary.expand_for(4)
        assert view.shape == (4, 16, 64)
        assert view.data_ptr() == dictionary.dt.data_ptr()

    @pytest.mark.parametrize("emit", [False, True])
    def test_widths_and_names(self, emit: bool) -> None:
        M, slice_ch = 32, 8
        support = 2 * M + 2 * slice_ch
        dictionary = SharedDictionary(8, 64)
        head = build_dictionary_mean_scale_head(
            slice_ch,
            support,
            shared_dictionary=dictionary,
            dict_output_ch=M,
            cross_attention_kwargs={"head_num": 4, "mlp_rate": 2},
            widths=(16,),
            emit_mean_support=emit,
        )
        out = head(torch.rand(2, support, 3, 5))
        assert out.shape == (2, 2 * slice_ch + (support + M if emit else 0), 3, 5)
        assert not any("dt" in key.split(".") for key in head.state_dict())

    def test_a_dictionary_for_each_image_may_be_given(self) -> None:
        attention = attn.MultiScaleDictionaryCrossAttentionGLU(10, 6, 2, head_num=2)
        x, dictionary = torch.rand(2, 10, 3, 4), torch.rand(2, 5, 64)
        together = attention(x, dictionary)
        alone = [attention(x[i : i + 1], dictionary[i : i + 1]) for i in (0, 1)]
        torch.testing.assert_close(together, torch.cat(alone))
        shared = attention(x, dictionary[:1].expand(2, -1, -1))
        torch.testing.assert_close(shared[:1], alone[0])

    def test_old_spelling_warns(self) -> None:
        for module in (attn, attn.dictionary):
            with pytest.warns(DeprecationWarning, match="MultiScaleDictionary"):
                old = module.MutiScaleDictionaryCrossAttentionGLU
            assert old is attn.MultiScaleDictionaryCrossAttentionGLU
