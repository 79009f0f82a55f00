# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What CompressAI 1.2 promises of bounds, tables and layers."""

from __future__ import annotations

import math

import pytest
import torch

from compressai._CXX import pmf_to_quantized_cdf
from compressai.layers import (
    GDN,
    GDN1,
    AttentionBlock,
    MaskedConv2d,
    QReLU,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
)
from compressai.ops import LowerBound, NonNegativeParametrizer, quantize_ste


def gradient(function, x):
    x = x.clone().requires_grad_()
    y = function(x)
    y.backward(x)
    return y.detach(), x.grad


class TestOps:
    def test_rounding_passes_the_gradient(self):
        x = torch.rand(16) * 10
        y, grad = gradient(quantize_ste, x)
        assert torch.equal(y, x.round())
        assert torch.equal(grad, x)

    def test_lower_bound(self):
        x, bound = torch.rand(16), 0.2
        module = LowerBound(bound)
        y, grad = gradient(module, x)
        assert torch.equal(y, x.clamp(min=bound))
        # A positive upstream gradient would push values down, below the bound they stay.
        assert torch.equal(grad, x * (x >= bound))
        assert torch.equal(torch.jit.script(module)(x), y)

    def test_parametrizer(self):
        parametrizer = NonNegativeParametrizer()
        x = torch.rand(1, 8, 8, 8) * 2 - 1
        reparametrized = parametrizer(x)
        assert reparametrized.shape == x.shape
        assert reparametrized.min() >= 0
        assert torch.allclose(parametrizer.init(x), x.clamp(min=0).sqrt(), atol=2**-18)
        assert NonNegativeParametrizer(0.2)(x).min() == pytest.approx(0.2, rel=1e-3)

    def test_quantized_tables(self):
        assert pmf_to_quantized_cdf([0.1, 0.2, 0, 0], 16) == [0, 21845, 65534, 65535, 65536]
        for bad in (-0.1, math.inf, math.nan):
            for pmf in ([bad], [0.5, bad], [0.1, 0.2, bad, 0.3]):
                with pytest.raises(ValueError):
                    pmf_to_quantized_cdf(pmf, 16)


class TestMaskedConv:
    @pytest.mark.parametrize("mask_type", ["A", "B"])
    @pytest.mark.parametrize("kernel", [(5, 5), (1, 5), (5, 1), (3, 7)])
    @pytest.mark.parametrize("channels", [(1, 1), (3, 2)])
    def test_mask_is_zero_after_the_centre(self, mask_type, kernel, channels):
        conv = MaskedConv2d(*channels, kernel, mask_type=mask_type)
        position = torch.arange(kernel[0] * kernel[1])
        centre = len(position) // 2
        kept = position < centre if mask_type == "A" else position <= centre
        expected = kept.float().reshape(kernel).expand(channels[1], channels[0], *kernel)
        assert torch.equal(conv.mask, expected)

    def test_other_masks_are_refused(self):
        for mask_type in ("C", "a", ""):
            with pytest.raises(ValueError):
                MaskedConv2d(1, 3, 5, mask_type=mask_type)

    def test_cannot_be_scripted(self):
        with pytest.raises(RuntimeError):
            torch.jit.script(MaskedConv2d(3, 3, 5, padding=2))


class TestGDN:
    @pytest.mark.parametrize("layer", [GDN(32), GDN(32, inverse=True), GDN1(32)])
    def test_values_of_a_new_layer(self, layer):
        x = torch.rand(1, 32, 16, 16, requires_grad=True)
        y = layer(x)
        y.backward(x)
        assert x.grad is not None
        assert x.grad.shape == x.shape
        norm = 1 + 0.1 * x.abs() if isinstance(layer, GDN1) else (1 + 0.1 * x**2).sqrt()
        expected = x * norm if layer.inverse else x / norm
        assert torch.allclose(y, expected, atol=1e-5)

    @pytest.mark.parametrize("layer", [GDN(16), GDN1(16)])
    def test_can_be_scripted(self, layer):
        x = torch.rand(1, 16, 8, 8)
        assert torch.allclose(torch.jit.script(layer)(x), layer(x))


def test_quantized_relu_clips_to_its_bits():
    x = torch.linspace(-50, 300, 71, requires_grad=True)
    y = QReLU.apply(x, 8, 100)
    assert torch.equal(y, x.detach().clamp(0, 255))
    y.backward(x)
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("channels", [(8, 8), (8, 16)])
@pytest.mark.parametrize("stride", [1, 2])
def test_residual_blocks_with_stride_run(channels, stride):
    y = ResidualBlockWithStride(*channels, stride=stride)(torch.rand(1, channels[0], 8, 8))
    assert y.shape == (1, channels[1], 8 // stride, 8 // stride)


def test_other_blocks_run():
    x = torch.rand(1, 8, 8, 8)
    assert ResidualBlockUpsample(8, 16)(x).shape == (1, 16, 16, 16)
    assert ResidualBlock(8, 16)(x).shape == (1, 16, 8, 8)
    assert AttentionBlock(8)(x).shape == x.shape
