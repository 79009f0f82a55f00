# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Blocks built from window attention: formulas, published keys, bits, memory formats, compilers."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from naive_attention import naive_attention, strengthen
from torch import nn

from compressai.layers import AttentionBlock, attn
from compressai.layers.attn import (
    Block,
    ConvTransBlock,
    PatchEmbed,
    PatchMerging,
    PatchSplit,
    SWAtten,
    SwinBlock,
    SwinTransformerBlock,
    WinNoShiftAttention,
    WinResidualUnit,
)

PUBLISHED = json.loads((Path(__file__).parent / "tables/attn_blocks.json").read_text())

# Blocks on (B, C, H, W) with 8 channels; eval mode makes stochastic depth the identity.
MAP_BLOCKS = {
    "swin": lambda: SwinBlock(8, 8, 4, 4, 0.1),
    "conv-trans-w": lambda: ConvTransBlock(4, 4, 2, 3, 0.0, "W"),
    "conv-trans-sw": lambda: ConvTransBlock(4, 4, 2, 3, 0.0, "SW"),
    "swatten": lambda: SWAtten(8, 8, 4, 4, 0.0, inter_dim=12),
    "swatten-plain": lambda: SWAtten(8, 8, 4, 4, 0.0, inter_dim=None),
    "wacnn": lambda: WinNoShiftAttention(8, 2, 4, 2, output_proj=False),
    "wacnn-w": lambda: WinNoShiftAttention(8, 2, 4, 0),
}


@pytest.fixture(params=MAP_BLOCKS.values(), ids=MAP_BLOCKS)
def block(request):
    torch.manual_seed(3)
    return strengthen(request.param()).eval()


class TestMapBlocks:
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_state_dict_has_published_keys_and_shapes(self, name):
        case = PUBLISHED[name]
        args = [nn.LayerNorm if arg == "LayerNorm" else arg for arg in case["args"]]
        state = getattr(attn, name)(*args, **case["kwargs"]).state_dict()
        assert {key: list(value.shape) for key, value in state.items()} == case["state"]

    @pytest.mark.parametrize("shape", [(1, 8, 8, 8), (2, 8, 5, 7), (1, 8, 1, 3), (1, 8, 1, 1)])
    def test_any_size_keeps_its_shape(self, block, shape):
        assert block(torch.randn(shape)).shape == shape

    def test_bits_do_not_depend_on_recorded_gradients(self, block):
        x = torch.randn(2, 8, 9, 6)
        with torch.no_grad():
            want = block(x)
        assert torch.equal(block(x), want)
        with torch.inference_mode():
            assert torch.equal(block(x), want)

    def test_memory_format_of_the_input_is_kept(self, block):
        x = torch.randn(2, 8, 9, 6)
        want = block(x)
        assert want.is_contiguous()
        fast = block.to(memory_format=torch.channels_last)
        got = fast(x.contiguous(memory_format=torch.channels_last))
        assert got.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)

    def test_every_parameter_gets_a_gradient(self, block):
        block.train()(torch.randn(2, 8, 9, 6)).square().sum().backward()
        assert [name for name, p in block.named_parameters() if p.grad is None] == []

    def test_compiles_in_one_graph_with_the_same_values(self, block):
        torch.compiler.reset()
        x = torch.randn(1, 8, 5, 6)
        compiled = torch.compile(block, backend="aot_eager", fullgraph=True)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), block(x), atol=1e-5, rtol=1e-5)

    def test_copies_behave_the_same(self, block):
        x = torch.randn(1, 8, 5, 6)
        assert torch.equal(copy.deepcopy(block)(x), block(x))

    def test_autocast_runs_in_bfloat16(self, block):
        x = torch.randn(1, 8, 5, 6)
        with torch.autocast("cpu", torch.bfloat16):
            out = block(x)
        out.float().sum().backward()
        torch.testing.assert_close(out.float(), block(x), atol=0.3, rtol=0.1)


class TestFormulas:
    def test_swin_transformer_block(self):
        block = strengthen(SwinTransformerBlock(6, 3, 4, 2)).eval()
        x = torch.randn(1, 7, 5, 6)
        middle = x + naive_attention(block.attn, block.norm1(x), 2)
        hidden = F.gelu(block.mlp.fc1(block.norm2(middle)))
        want = middle + block.mlp.fc2(hidden)
        torch.testing.assert_close(block(x), want, atol=1e-5, rtol=1e-5)
        assert block.mlp.fc1.out_features == 24

    @pytest.mark.parametrize("output_dim", [6, 10])
    def test_block(self, output_dim):
        block = Block(6, output_dim, 3, 4, 0.0, "SW").eval()
        x = torch.randn(1, 7, 5, 6)
        middle = x + block.msa(block.norm1(x))
        want = block.residual_proj(middle) + block.mlp(block.norm2(middle))
        torch.testing.assert_close(block(x), want)
        assert ("residual_proj.weight" in block.state_dict()) == (output_dim != 6)

    def test_swin_block_is_plain_then_shifted_windows(self):
        block = strengthen(SwinBlock(6, 6, 3, 4, 0.0)).eval()
        x = torch.randn(1, 6, 7, 5)
        want = block.block_2(block.block_1(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        torch.testing.assert_close(block(x), want)
        assert (block.block_1.msa.type, block.block_2.msa.type) == ("W", "SW")

    def test_conv_trans_block_has_a_second_skip_around_its_convolutions(self):
        block = ConvTransBlock(4, 6, 3, 4, 0.0).eval()
        x = torch.randn(1, 10, 5, 6)
        u, t = block.conv1_1(x).split((4, 6), 1)
        u = block.conv_block(u) + u
        t = block.trans_block(t.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(block(x), x + block.conv1_2(torch.cat([u, t], 1)))

    def test_swatten_masks_the_trunk_of_its_inner_input(self):
        block = SWAtten(5, 7, 3, 4, 0.0, inter_dim=6).eval()
        x = torch.randn(1, 5, 4, 6)
        inner = block.in_conv(x)
        mask = torch.sigmoid(block.conv_b(block.non_local_block(inner)))
        want = block.out_conv(block.conv_a(inner) * mask + inner)
        torch.testing.assert_close(block(x), want)
        assert isinstance(block, AttentionBlock)

    def test_win_no_shift_attention(self):
        block = strengthen(WinNoShiftAttention(6, 2, 4, 2, output_proj=False)).eval()
        x = torch.randn(1, 6, 7, 5)
        layer = block.conv_b[0].attn.attn
        y = x + naive_attention(layer, x.permute(0, 2, 3, 1), 2).permute(0, 3, 1, 2)
        mask = torch.sigmoid(block.conv_b[1:](y))
        torch.testing.assert_close(block(x), x + block.conv_a(x) * mask, atol=1e-5, rtol=1e-5)

    def test_win_residual_unit_uses_gelu_throughout(self):
        unit = WinResidualUnit(6)
        x = torch.randn(1, 6, 4, 4)
        y = unit.conv[2](F.gelu(unit.conv[0](x)))
        torch.testing.assert_close(unit(x), F.gelu(unit.conv[4](F.gelu(y)) + x))

    def test_stochastic_depth_drops_whole_branches_in_training(self):
        block = SwinTransformerBlock(6, 3, 4, drop_path=0.5).train()
        torch.manual_seed(0)
        x = torch.randn(64, 4, 4, 6)
        untouched = (block(x) == x).flatten(1).all(1).sum().item()
        assert 4 < untouched < 32
        assert not (block.eval()(x) == x).flatten(1).all(1).any()

    @pytest.mark.parametrize(
        ("build", "name"),
        [
            (lambda: SWAtten(5, 7, 3, 4, 0.0, inter_dim=None), "output_dim"),
            (lambda: SwinBlock(6, 6, 4, 4, 0.0), "head_dim"),
            (lambda: SwinTransformerBlock(6, 3, 4, shift_size=4), "shift_size"),
            (lambda: SwinTransformerBlock(6, 3, 4, drop_path=1.0), "drop_path"),
            (lambda: WinNoShiftAttention(6, 4), "num_heads"),
            (lambda: ConvTransBlock(4, 4, 4, 4, 0.0, "sw"), "type"),
            (lambda: PatchSplit(5), "dim"),
        ],
    )
    def test_bad_arguments_are_refused_by_name(self, build, name):
        with pytest.raises(ValueError, match=name):
            build()


class TestPatches:
    @pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 1)])
    def test_merging_joins_neighbours_column_by_column(self, height, width):
        layer = PatchMerging(3)
        x = torch.randn(2, height, width, 3)
        padded = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        corners = [padded[:, r::2, c::2] for c in (0, 1) for r in (0, 1)]
        want = layer.reduction(layer.norm(torch.cat(corners, -1).flatten(1, 2)))
        torch.testing.assert_close(layer(x.flatten(1, 2), height, width), want)

    def test_split_is_a_pixel_shuffle_of_widened_tokens(self):
        layer = PatchSplit(4)
        x = torch.randn(2, 3 * 5, 4)
        wide = layer.reduction(layer.norm(x)).transpose(1, 2).reshape(2, 8, 3, 5)
        want = nn.PixelShuffle(2)(wide).flatten(2).transpose(1, 2)
        got = layer(x, 3, 5)
        torch.testing.assert_close(got, want)
        assert got.shape == (2, 60, 2)

    @pytest.mark.parametrize("layer", [PatchMerging(4), PatchSplit(4)])
    def test_wrong_number_of_tokens_is_refused(self, layer):
        with pytest.raises(ValueError, match="15 tokens, H=4, W=4"):
            layer(torch.zeros(1, 15, 4), 4, 4)

    @pytest.mark.parametrize(("norm", "keys"), [(None, 2), (nn.LayerNorm, 4)])
    def test_embedding_is_a_map_of_normalised_patches(self, norm, keys):
        layer = PatchEmbed(2, 3, 8, norm)
        x = torch.randn(1, 3, 5, 6)
        want = layer.norm(layer.proj(F.pad(x, (0, 0, 0, 1))).permute(0, 2, 3, 1))
        torch.testing.assert_close(layer(x), want)
        assert layer(x).shape == (1, 3, 3, 8)
        assert len(layer.state_dict()) == keys
