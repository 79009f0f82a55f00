# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Blocks: values against plain formulas, gradients, masks, keys. Golden values: test_golden."""

from __future__ import annotations

import copy
import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from compressai import layers
from compressai.layers import (
    GDN,
    GDN1,
    AttentionBlock,
    CheckerboardMaskedConv2d,
    Gain,
    Interleave,
    Lambda,
    MaskedConv2d,
    NamedLayer,
    QReLU,
    Reshape,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
    SpectralConv2d,
    SpectralConvTranspose2d,
    Transpose,
    conv1x1,
    conv3x3,
    sequential_channel_ramp,
    subpel_conv3x3,
)

GOLDEN_CASES = json.loads((Path(__file__).parent / "golden/layers.json").read_text())["cases"]

BLOCKS = {
    "gdn": lambda: GDN(4),
    "igdn": lambda: GDN(4, inverse=True),
    "gdn1": lambda: GDN1(4),
    "stride": lambda: ResidualBlockWithStride(4, 6, stride=2),
    "stride-same": lambda: ResidualBlockWithStride(4, 4, stride=1),
    "upsample": lambda: ResidualBlockUpsample(4, 6, upsample=2),
    "residual": lambda: ResidualBlock(4, 6),
    "residual-same": lambda: ResidualBlock(4, 4),
    "bottleneck": lambda: ResidualBottleneckBlock(4, 6),
    "bottleneck-same": lambda: ResidualBottleneckBlock(4, 4),
    "attention": lambda: AttentionBlock(4),
    "masked": lambda: MaskedConv2d(4, 6, 5, padding=2),
    "checkerboard": lambda: CheckerboardMaskedConv2d(4, 6, 5, padding=2),
    "spectral": lambda: SpectralConv2d(4, 6, 5, padding=2),
    "spectral-transpose": lambda: SpectralConvTranspose2d(4, 6, 5, stride=2),
}


@pytest.fixture(params=BLOCKS.values(), ids=BLOCKS)
def block(request):
    torch.manual_seed(1)
    return request.param()


class TestEveryBlock:
    @pytest.mark.parametrize("name", GOLDEN_CASES)
    def test_state_dict_has_the_keys_of_the_reference_in_its_order(self, name):
        case = GOLDEN_CASES[name]
        factory = getattr(layers, case["class"].rsplit(".", 1)[1])
        state = factory(*case["args"], **case["kwargs"]).state_dict()
        assert list(state) == list(case["state_dict"])

    def test_gradient_is_that_of_the_function(self, block):
        if isinstance(block, (SpectralConv2d, SpectralConvTranspose2d)):
            block = type(block)(4, 6, 3, dtype=torch.float64)
        block = block.double()
        x = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
        # Away from the kinks of ReLU and |x|, where a difference quotient means nothing.
        with torch.no_grad():
            x += 0.1 * x.sign()
        assert torch.autograd.gradcheck(block, x, eps=1e-7, atol=1e-5)

    def test_every_parameter_gets_a_gradient(self, block):
        block(torch.randn(1, 4, 6, 6)).square().sum().backward()
        assert [name for name, p in block.named_parameters() if p.grad is None] == []

    def test_input_and_parameters_are_left_alone(self, block):
        x = torch.randn(1, 4, 6, 6)
        kept, state = x.clone(), copy.deepcopy(block.state_dict())
        block(x)
        assert torch.equal(x, kept)
        assert all(torch.equal(v, state[k]) for k, v in block.state_dict().items())

    def test_channels_last_gives_the_same_values(self, block):
        x = torch.randn(1, 4, 6, 6)
        want = block(x)
        got = block.to(memory_format=torch.channels_last)(
            x.contiguous(memory_format=torch.channels_last)
        )
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)

    def test_export_traces_the_whole_block(self, block):
        x = torch.randn(1, 4, 6, 6)
        exported = torch.export.export(block.eval(), (x,)).module()
        torch.testing.assert_close(exported(x), block(x), atol=1e-5, rtol=1e-5)

    def test_compiles_in_one_graph_with_the_same_gradients(self, block):
        torch.compiler.reset()
        x = torch.randn(1, 4, 6, 6)
        gradients = []
        for function in (block, torch.compile(block, backend="aot_eager", fullgraph=True)):
            block.zero_grad()
            function(x).square().sum().backward()
            gradients.append([p.grad.clone() for p in block.parameters()])
        torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)

    def test_copies_and_pickles_behave_the_same(self, block):
        x = torch.randn(1, 4, 6, 6)
        file = io.BytesIO()
        torch.save(block, file)
        file.seek(0)
        for twin in (copy.deepcopy(block), torch.load(file, weights_only=False)):
            assert torch.equal(twin(x), block(x))


class TestGDN:
    def test_fresh_layers_are_the_documented_formulas(self):
        x = torch.randn(2, 32, 5, 7)
        root = torch.sqrt(1 + 0.1 * x**2)
        torch.testing.assert_close(GDN(32)(x), x / root)
        torch.testing.assert_close(GDN(32, inverse=True)(x), x * root)
        torch.testing.assert_close(GDN1(32)(x), x / (1 + 0.1 * x.abs()))
        torch.testing.assert_close(GDN1(32, inverse=True)(x), x * (1 + 0.1 * x.abs()))

    def test_rows_of_gamma_belong_to_output_channels(self):
        gdn = GDN(3)
        gamma, beta = torch.rand(3, 3), 1 + torch.rand(3)
        gdn.gamma.data = gdn.gamma_reparam.init(gamma)
        gdn.beta.data = gdn.beta_reparam.init(beta)
        x = torch.randn(1, 3, 1, 1)
        norm = beta + gamma @ x.flatten() ** 2
        torch.testing.assert_close(gdn(x).flatten(), x.flatten() / norm.sqrt())

    def test_negative_parameters_act_as_their_minimum(self):
        gdn = GDN(2, beta_min=0.25)
        gdn.beta.data.fill_(-1)
        gdn.gamma.data.fill_(-1)
        x = torch.randn(1, 2, 4, 4)
        torch.testing.assert_close(gdn(x), 2 * x)

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 4), (1, 3, 4, 4, 4)])
    def test_input_that_is_not_4d_is_refused(self, shape):
        with pytest.raises(ValueError, match="4-D"):
            GDN(3)(torch.rand(shape))

    @pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
    @pytest.mark.parametrize("kind", [GDN, GDN1])
    @pytest.mark.parametrize("inverse", [False, True])
    def test_scripted_module_agrees(self, kind, inverse):
        module = kind(8, inverse=inverse)
        x = torch.randn(1, 8, 4, 4)
        torch.testing.assert_close(torch.jit.script(module)(x), module(x))

    def test_import_path_of_existing_code(self):
        assert importlib.import_module("compressai.layers.gdn").GDN is GDN
        assert importlib.import_module("compressai.layers.layers").MaskedConv2d is MaskedConv2d


def raster_mask(height, width, kind):
    """1 before the centre in raster order; the centre itself only for B."""
    position = np.arange(height * width).reshape(height, width)
    centre = position[height // 2, width // 2]
    return (position < centre + (kind == "B")).astype(np.float32)


class TestMaskedConv2d:
    @pytest.mark.parametrize("kind", ["A", "B"])
    @pytest.mark.parametrize("size", [(5, 5), (1, 5), (5, 1), (3, 7), (2, 4)])
    @pytest.mark.parametrize("channels", [(1, 1), (3, 2)])
    def test_mask_is_the_past_in_raster_order_for_every_channel_pair(self, kind, size, channels):
        mask = MaskedConv2d(*channels, size, mask_type=kind).mask
        want = torch.from_numpy(raster_mask(*size, kind))
        assert torch.equal(mask, want.expand(channels[1], channels[0], *size))
        assert mask.dtype == torch.float32

    def test_checkerboard_mask_is_the_other_colour(self):
        a = CheckerboardMaskedConv2d(1, 1, 5).mask[0, 0]
        assert a.tolist() == [[float((r + c) % 2) for c in range(5)] for r in range(5)]

    @pytest.mark.parametrize("size", [(5, 5), (3, 3), (3, 5)])
    def test_centre_of_the_checkerboard_depends_on_the_type_alone(self, size):
        for kind, want in (("A", 0), ("B", 1)):
            mask = CheckerboardMaskedConv2d(1, 1, size, mask_type=kind).mask[0, 0]
            assert mask[size[0] // 2, size[1] // 2] == want

    @pytest.mark.parametrize("kind", [MaskedConv2d, CheckerboardMaskedConv2d])
    @pytest.mark.parametrize("mask_type", ["C", "", "a", None])
    def test_unknown_mask_type_is_refused(self, kind, mask_type):
        with pytest.raises(ValueError, match="mask_type"):
            kind(1, 3, 5, mask_type=mask_type)

    def test_forward_equals_convolution_with_overwritten_weights_but_keeps_them(self):
        conv = MaskedConv2d(3, 4, 5, padding=2, stride=2, padding_mode="reflect")
        plain = nn.Conv2d(3, 4, 5, padding=2, stride=2, padding_mode="reflect")
        plain.load_state_dict({"weight": conv.weight * conv.mask, "bias": conv.bias})
        before = conv.weight.clone()
        x = torch.randn(2, 3, 9, 9)
        assert torch.equal(conv(x), plain(x))
        assert torch.equal(conv.weight, before)

    def test_output_does_not_depend_on_the_future(self):
        conv = MaskedConv2d(1, 1, 5, padding=2)
        x = torch.randn(1, 1, 8, 8, requires_grad=True)
        conv(x)[0, 0, 4, 3].backward()
        seen = x.grad[0, 0] != 0
        assert seen.flatten()[: 4 * 8 + 3].any()
        assert not seen.flatten()[4 * 8 + 3 :].any()

    def test_hidden_weights_get_no_gradient(self):
        conv = MaskedConv2d(2, 2, 3, padding=1)
        conv(torch.randn(1, 2, 5, 5)).sum().backward()
        assert torch.equal(conv.weight.grad != 0, conv.mask != 0)

    @pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
    @pytest.mark.parametrize("kind", [MaskedConv2d, CheckerboardMaskedConv2d])
    def test_torchscript_is_refused_with_a_way_out(self, kind):
        for module in (kind(1, 3, 5), nn.Sequential(kind(1, 3, 5))):
            with pytest.raises(RuntimeError, match=r"torch\.compile"):
                torch.jit.script(module)


class TestConvolutionHelpers:
    @pytest.mark.parametrize("stride", [1, 2])
    def test_sizes(self, stride):
        x = torch.randn(1, 3, 8, 8)
        assert conv3x3(3, 5, stride)(x).shape == (1, 5, 8 // stride, 8 // stride)
        assert conv1x1(3, 5, stride)(x).shape == (1, 5, 8 // stride, 8 // stride)
        assert subpel_conv3x3(3, 5, 2)(x).shape == (1, 5, 16, 16)


class TestResidualBlocks:
    @pytest.mark.parametrize("in_ch", [4, 6])
    @pytest.mark.parametrize("stride", [1, 2])
    def test_stride_block_is_its_formula(self, in_ch, stride):
        block = ResidualBlockWithStride(in_ch, 6, stride)
        x = torch.randn(1, in_ch, 7, 8)
        trunk = block.gdn(block.conv2(F.leaky_relu(block.conv1(x), 0.01)))
        assert (block.skip is None) == (in_ch == 6 and stride == 1)
        skip = x if block.skip is None else block.skip(x)
        torch.testing.assert_close(block(x), trunk + skip)

    def test_upsample_block_is_its_formula(self):
        block = ResidualBlockUpsample(4, 6, 3)
        x = torch.randn(1, 4, 5, 4)
        trunk = block.igdn(block.conv(F.leaky_relu(block.subpel_conv(x), 0.01)))
        torch.testing.assert_close(block(x), trunk + block.upsample(x))
        assert block(x).shape == (1, 6, 15, 12)

    @pytest.mark.parametrize("in_ch", [4, 6])
    def test_residual_block_is_its_formula(self, in_ch):
        block = ResidualBlock(in_ch, 6)
        x = torch.randn(1, in_ch, 5, 4)
        trunk = F.leaky_relu(block.conv2(F.leaky_relu(block.conv1(x), 0.01)), 0.01)
        torch.testing.assert_close(block(x), trunk + (x if in_ch == 6 else block.skip(x)))

    @pytest.mark.parametrize(("in_ch", "has_skip"), [(6, False), (4, True)])
    def test_bottleneck_block_is_its_formula(self, in_ch, has_skip):
        block = ResidualBottleneckBlock(in_ch, 6)
        x = torch.randn(1, in_ch, 5, 4)
        trunk = block.conv3(F.relu(block.conv2(F.relu(block.conv1(x)))))
        torch.testing.assert_close(block(x), trunk + block.skip(x))
        keys = [key.rsplit(".", 1)[0] for key in block.state_dict() if key.endswith("weight")]
        assert keys == ["conv1", "conv2", "conv3"] + ["skip"] * has_skip
        assert block.conv2.in_channels == min(in_ch, 6) // 2


class TestAttentionBlock:
    def test_mask_branch_gates_the_trunk_beside_the_skip(self):
        block = AttentionBlock(6)
        x = torch.randn(1, 6, 5, 4)
        for unit in block.conv_a:
            nn.init.zeros_(unit.conv[4].weight)
            nn.init.zeros_(unit.conv[4].bias)
        # Every unit is then relu(0 + x).
        want = F.relu(x) * torch.sigmoid(block.conv_b(x)) + x
        torch.testing.assert_close(block(x), want)


class TestContainers:
    def test_lambda_calls_its_function(self):
        module = Lambda(torch.square)
        assert module.func is torch.square
        assert module(torch.tensor(3.0)) == 9
        assert "square" in repr(module)

    def test_named_layer_is_the_identity_with_a_name(self):
        x = torch.rand(2)
        module = NamedLayer("bridge")
        assert module(x) is x
        assert module.name == "bridge"
        assert "bridge" in repr(module)

    def test_reshape_keeps_the_batch_axis(self):
        module = Reshape((4, -1))
        assert module(torch.rand(3, 2, 8)).shape == (3, 4, 4)
        assert "(4, -1)" in repr(module)

    def test_reshape_that_does_not_fit_names_both_shapes(self):
        with pytest.raises(RuntimeError) as caught:
            Reshape((5, 5))(torch.rand(2, 3, 4))
        assert len(caught.value.args) == 2
        assert "(2, 3, 4)" in caught.value.args[1]
        assert "(2, 5, 5)" in caught.value.args[1]

    def test_transpose_returns_contiguous_memory(self):
        module = Transpose(-3, -2)
        x = torch.rand(2, 3, 4, 5)
        assert torch.equal(module(x), x.permute(0, 2, 1, 3))
        assert module(x).is_contiguous()
        assert "-3" in repr(module)

    @given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
    def test_interleave_takes_one_channel_of_each_group_in_turn(self, groups, size, axes):
        channels = groups * size
        x = torch.rand(2, channels, *[3] * axes)
        order = [b * size + a for a in range(size) for b in range(groups)]
        assert torch.equal(Interleave(groups)(x), x[:, order])

    def test_interleave_refuses_channels_that_do_not_divide(self):
        with pytest.raises(RuntimeError, match="C=5, groups=2"):
            Interleave(2)(torch.rand(1, 5, 3))

    def test_gain_starts_at_its_factor_and_is_trained(self):
        module = Gain((3, 1, 1), factor=2.0)
        x = torch.rand(1, 3, 2, 2)
        assert torch.equal(module(x), 2 * x)
        assert dict(module.named_parameters())["gain"].shape == (3, 1, 1)

    def test_gain_without_shape_is_a_type_error(self):
        with pytest.raises(TypeError, match="shape"):
            Gain()


class TestSpectralConvolutions:
    @pytest.mark.parametrize("kernel", [3, 5, (4, 2), (1, 1)])
    @pytest.mark.parametrize("kind", ["", "Transpose"])
    def test_fresh_layer_equals_the_torch_layer_of_the_same_seed(self, kernel, kind):
        spectral = {"": SpectralConv2d, "Transpose": SpectralConvTranspose2d}[kind]
        plain = getattr(nn, f"Conv{kind}2d")
        torch.manual_seed(0)
        a = spectral(3, 4, kernel, stride=2)
        torch.manual_seed(0)
        b = plain(3, 4, kernel, stride=2)
        x = torch.randn(1, 3, 9, 8)
        torch.testing.assert_close(a.weight, b.weight)
        torch.testing.assert_close(a(x), b(x))

    def test_state_holds_bias_and_orthonormal_spectrum(self):
        conv = SpectralConv2d(3, 4, (5, 4))
        assert list(conv.state_dict()) == ["bias", "weight_transformed"]
        spectrum = conv.weight_transformed
        assert (spectrum.shape, spectrum.dtype) == ((4, 3, 5, 3), torch.complex64)
        dc = conv.weight.sum((-2, -1)) / (5 * 4) ** 0.5
        torch.testing.assert_close(spectrum[..., 0, 0], dc.to(torch.complex64))

    @pytest.mark.parametrize("kind", [SpectralConv2d, SpectralConvTranspose2d])
    def test_weight_cannot_be_assigned(self, kind):
        conv = kind(3, 4, 3)
        with pytest.raises(AttributeError):
            conv.weight = torch.zeros(4, 3, 3, 3)

    def test_cast_that_loses_the_imaginary_part_is_noticed(self):
        conv = SpectralConv2d(3, 4, 3)
        with pytest.warns(UserWarning, match="[Cc]omplex"):
            conv = conv.to(torch.float64)
        with pytest.raises(TypeError, match="weight_transformed must be complex"):
            conv(torch.zeros(1, 3, 4, 4, dtype=torch.float64))

    def test_training_step_changes_the_weight(self):
        conv = SpectralConv2d(1, 1, 3)
        before = conv.weight.detach().clone()
        conv(torch.randn(1, 1, 8, 8)).square().sum().backward()
        torch.optim.SGD(conv.parameters(), lr=0.1).step()
        assert not torch.allclose(conv.weight, before)


class TestQReLU:
    def test_forward_clamps_without_rounding(self):
        x = torch.tensor([-3.0, 0.0, 0.3, 254.6, 255.0, 300.0])
        assert torch.equal(QReLU.apply(x, 8, 100), x.clamp(0, 255))

    def test_gradient_is_one_inside_and_decays_outside(self):
        top = 255.0
        x = torch.tensor([0.0, 100.0, top, -0.5, -50.0, top + 0.5, 400.0], requires_grad=True)
        upstream = torch.linspace(-1, 1, 7)
        QReLU.apply(x, 8, 100).backward(upstream)
        far = (2 * x.detach().double() / top - 1).abs()
        decay = torch.exp(-(0.9943258522851727**100) * far**100).float()
        decay[:3] = 1
        torch.testing.assert_close(x.grad, upstream * decay, rtol=1e-4, atol=1e-7)
        assert 0 < x.grad[5] < upstream[5]

    def test_gradient_integrates_to_the_width_of_the_range(self):
        x = torch.linspace(-100, 355, 455_001, dtype=torch.float64, requires_grad=True)
        (grad,) = torch.autograd.grad(QReLU.apply(x, 8, 100).sum(), x)
        outside = (x < 0) | (x > 255)
        # The decay outside makes up for exp(-|.|^beta) < 1 inside, where the gradient stays 1.
        smooth = torch.exp(-((0.9943258522851727 * (2 * x.detach() / 255 - 1).abs()) ** 100))
        torch.testing.assert_close(grad[outside], smooth[outside])
        assert smooth.sum().item() / 1000 == pytest.approx(255, rel=1e-4)


class TestSequentialChannelRamp:
    @staticmethod
    def widths(*args, **kwargs):
        net = sequential_channel_ramp(
            *args, make_layer=nn.Conv2d, make_act=nn.ReLU, kernel_size=1, **kwargs
        )
        convs = [layer for layer in net if isinstance(layer, nn.Conv2d)]
        assert [c.in_channels for c in convs[1:]] == [c.out_channels for c in convs[:-1]]
        return [convs[0].in_channels, *(c.out_channels for c in convs)]

    def test_spacing(self):
        assert self.widths(3, 12) == [3, 6, 9, 12]
        assert self.widths(10, 3, num_layers=2) == [10, 6, 3]
        assert self.widths(4, 64, num_layers=2, interp="log") == [4, 16, 64]

    @given(st.integers(1, 400), st.integers(1, 400), st.sampled_from(["linear", "log"]))
    def test_ends_are_exactly_those_asked_for(self, in_ch, out_ch, interp):
        widths = self.widths(in_ch, out_ch, interp=interp)
        assert (widths[0], widths[-1]) == (in_ch, out_ch)

    def test_min_ch_raises_only_what_lies_between(self):
        assert self.widths(1, 2, num_layers=3, min_ch=8) == [1, 8, 8, 2]

    @pytest.mark.parametrize(("skip", "length"), [(True, 5), (False, 6)])
    def test_activations_stand_between_the_layers(self, skip, length):
        net = sequential_channel_ramp(
            3, 6, make_layer=nn.Linear, make_act=nn.GELU, skip_last_act=skip
        )
        assert len(net) == length
        assert all(isinstance(layer, nn.GELU) for layer in net[1::2])

    @pytest.mark.parametrize(
        ("bad", "name"), [({"interp": "cubic"}, "interp"), ({"num_layers": 0}, "num_layers")]
    )
    def test_bad_arguments_are_refused_by_name(self, bad, name):
        with pytest.raises(ValueError, match=name):
            sequential_channel_ramp(3, 6, make_layer=nn.Linear, make_act=nn.ReLU, **bad)
