# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bounds, parametrisation, rounding and padding: values, gradients and refusals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from compressai.ops import LowerBound, NonNegativeParametrizer, compute_padding, quantize_ste
from compressai.ops.bound_ops import LowerBoundFunction, lower_bound_bwd, lower_bound_fwd

SIDES = st.integers(1, 2000)


class TestQuantizeSte:
    def test_value_is_exactly_round(self):
        x = torch.cat([100 * torch.randn(10_000), torch.arange(-8, 8) / 2, torch.tensor([1e30])])
        assert torch.equal(quantize_ste(x), torch.round(x))

    def test_gradient_is_the_identity(self):
        x = torch.randn(50, requires_grad=True)
        upstream = torch.randn(50)
        quantize_ste(x).backward(upstream)
        assert torch.equal(x.grad, upstream)


class TestLowerBound:
    def test_value_is_the_maximum(self):
        x = torch.rand(16)
        assert torch.equal(LowerBound(0.5)(x), x.clamp(min=0.5))

    def test_gradient_passes_in_range_and_where_it_leads_back(self):
        x = torch.tensor([0.6, 0.6, 0.5, 0.4, 0.4, 0.4], requires_grad=True)
        upstream = torch.tensor([1.0, -1.0, 2.0, 1.0, -1.0, 0.0])
        LowerBound(0.5)(x).backward(upstream)
        assert x.grad.tolist() == [1.0, -1.0, 2.0, 0.0, -1.0, 0.0]

    def test_functions_of_forward_and_backward_agree_with_the_module(self):
        x = torch.randn(3, 4, requires_grad=True)
        bound = torch.tensor([0.1])
        upstream = torch.randn(3, 4)
        out = LowerBoundFunction.apply(x, bound)
        out.backward(upstream)
        assert torch.equal(out, lower_bound_fwd(x, bound))
        grad_x, grad_bound = lower_bound_bwd(x, bound, upstream)
        assert torch.equal(x.grad, grad_x)
        assert grad_bound is None

    def test_bound_is_a_float32_buffer_of_one_element(self):
        (key, value), *others = LowerBound(0.11).state_dict().items()
        assert (key, value.shape, value.dtype, others) == ("bound", (1,), torch.float32, [])
        assert value.item() == pytest.approx(0.11)

    def test_narrow_input_is_compared_in_the_precision_of_the_bound(self):
        x = torch.tensor([0.11], dtype=torch.bfloat16, requires_grad=True)
        out = LowerBound(0.11)(x)
        assert out.dtype == torch.float32
        out.sum().backward()
        assert x.grad.dtype == torch.bfloat16

    @pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
    def test_scripted_module_is_a_plain_maximum(self):
        x = torch.rand(16)
        module = LowerBound(0.5)
        assert torch.equal(torch.jit.script(module)(x), module(x))

    def test_gradient_survives_vmap(self):
        x = torch.tensor([[0.4, 0.6], [0.5, 0.1]])

        def gradient(row):
            return torch.func.grad(lambda v: LowerBound(0.5)(v).sum())(row)

        assert torch.vmap(gradient)(x).tolist() == [[0.0, 1.0], [1.0, 0.0]]


class TestNonNegativeParametrizer:
    def test_output_never_falls_below_the_minimum(self):
        for minimum in (0.0, 1e-6, 0.3):
            out = NonNegativeParametrizer(minimum=minimum)(torch.randn(1000))
            assert out.shape == (1000,)
            assert out.min() >= minimum - 1e-7
            assert out.min() == pytest.approx(minimum, abs=1e-6)

    @given(st.floats(0.0, 100.0), st.sampled_from([2**-18, 1e-3]))
    def test_forward_undoes_init(self, value, offset):
        reparam = NonNegativeParametrizer(reparam_offset=offset)
        got = reparam(reparam.init(torch.tensor([value])))
        torch.testing.assert_close(got, torch.tensor([value]), atol=1e-6, rtol=1e-6)

    def test_init_is_about_the_square_root_of_the_positive_part(self):
        x = torch.randn(8, 8)
        torch.testing.assert_close(
            NonNegativeParametrizer().init(x), x.clamp(min=0).sqrt(), atol=2**-18, rtol=0
        )

    def test_buffers_hold_pedestal_and_bound(self):
        state = NonNegativeParametrizer(minimum=0.25, reparam_offset=0.5).state_dict()
        assert {k: v.tolist() for k, v in state.items()} == {
            "pedestal": [0.25],
            "lower_bound.bound": [pytest.approx(0.5**0.5)],
        }

    def test_parameter_below_the_bound_can_come_back(self):
        reparam = NonNegativeParametrizer(minimum=0.01)
        stored = torch.zeros(1, requires_grad=True)
        (-reparam(stored)).backward()
        assert stored.grad < 0

    @pytest.mark.parametrize("bad", [{"minimum": -1e-9}, {"reparam_offset": -1.0}])
    def test_negative_arguments_are_refused(self, bad):
        with pytest.raises(ValueError, match=next(iter(bad))):
            NonNegativeParametrizer(**bad)


class TestComputePadding:
    @given(SIDES, SIDES, st.integers(1, 256))
    def test_default_output_is_the_next_multiple_and_centred(self, height, width, min_div):
        (left, right, top, bottom), unpad = compute_padding(height, width, min_div=min_div)
        assert (height + top + bottom) % min_div == 0 == (width + left + right) % min_div
        assert 0 <= top + bottom < min_div > left + right >= 0
        assert right - left in (0, 1)
        assert bottom - top in (0, 1)
        assert unpad == (-left, -right, -top, -bottom)

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 70), st.integers(1, 70))
    def test_pad_reaches_any_given_size(self, height, width, out_h, out_w):
        pad, _ = compute_padding(height, width, out_h=out_h, out_w=out_w)
        assert F.pad(torch.zeros(height, width), pad).shape == (out_h, out_w)

    @given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
    def test_unpad_undoes_pad(self, height, width, min_div):
        x = torch.rand(1, 1, height, width)
        pad, unpad = compute_padding(height, width, min_div=min_div)
        assert torch.equal(F.pad(F.pad(x, pad), unpad), x)

    def test_smaller_output_is_a_crop_rounded_towards_the_top_left(self):
        assert compute_padding(7, 7, out_h=4, out_w=4)[0] == (-2, -1, -2, -1)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"out_h": 65, "min_div": 64}, "out_h"),
            ({"out_w": 100, "min_div": 64}, "out_w"),
            ({"min_div": 0}, "min_div"),
        ],
    )
    def test_impossible_output_is_refused_by_name(self, arguments, name):
        with pytest.raises(ValueError, match=name):
            compute_padding(50, 50, **arguments)
