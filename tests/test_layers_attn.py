# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Windows, masks, and window attention against a plain attention over the whole map."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_attention import naive_attention, strengthen
from torch import nn

from compressai.layers import attn
from compressai.layers.attn import (
    WMSA,
    SwinBlock,
    SwinTransformerBlock,
    WindowAttention,
    WinNoShiftAttention,
    build_window_attention_mask,
    pad_to_window_multiple,
    window_partition,
    window_reverse,
)
from compressai.layers.attn.biased_attention import biased_attention
from compressai.layers.attn.windows import relative_position_index


class TestWindows:
    @given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
    def test_reverse_undoes_partition(self, batch, rows, columns, size):
        x = torch.rand(batch, rows * size, columns * size, 2)
        windows = window_partition(x, size)
        assert windows.shape == (batch * rows * columns, size, size, 2)
        assert torch.equal(window_reverse(windows, size, *x.shape[1:3]), x)

    def test_windows_count_along_batch_then_rows_then_columns(self):
        x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
        windows = window_partition(x, (2, 3))
        for index, (b, r, c) in enumerate(
            (b, r, c) for b in (0, 1) for r in (0, 2) for c in (0, 3)
        ):
            assert torch.equal(windows[index], x[b, r : r + 2, c : c + 3])

    def test_sizes_that_are_no_multiple_are_refused(self):
        with pytest.raises(ValueError, match="H=5, W=4"):
            window_partition(torch.zeros(1, 5, 4, 1), 4)
        with pytest.raises(ValueError, match="H=4, W=6"):
            window_reverse(torch.zeros(1, 4, 4, 1), 4, 4, 6)
        with pytest.raises(ValueError, match="window_size"):
            window_partition(torch.zeros(1, 4, 4, 1), 0)

    @pytest.mark.parametrize(("layout", "axes"), [("BCHW", (2, 3)), ("BHWC", (1, 2))])
    @given(st.integers(1, 9), st.integers(1, 9))
    def test_padding_is_zeros_on_the_right_and_at_the_bottom(self, layout, axes, height, width):
        shape = [2, 3, 3, 3]
        shape[axes[0]], shape[axes[1]] = height, width
        x = torch.rand(shape) + 1
        padded, pad_h, pad_w = pad_to_window_multiple(x, (4, 3), layout=layout)
        assert (padded.shape[axes[0]], padded.shape[axes[1]]) == (height + pad_h, width + pad_w)
        assert (height + pad_h) % 4 == 0 == (width + pad_w) % 3
        assert (pad_h < 4, pad_w < 3) == (True, True)
        crop = padded.narrow(axes[0], 0, height).narrow(axes[1], 0, width)
        assert torch.equal(crop, x)
        assert padded.sum() == pytest.approx(x.sum().item(), rel=1e-5)

    def test_nothing_to_pad_returns_the_input_itself(self):
        x = torch.rand(1, 2, 8, 4)
        assert pad_to_window_multiple(x, 4)[0] is x

    def test_unknown_layout_is_refused(self):
        with pytest.raises(ValueError, match="layout"):
            pad_to_window_multiple(torch.zeros(1, 1, 4, 4), 4, layout="HWC")


class TestMask:
    @pytest.mark.parametrize(("height", "width"), [(8, 12), (4, 4), (7, 9)])
    @pytest.mark.parametrize("shift", [1, 2, 3])
    def test_pairs_see_each_other_if_their_piece_of_the_image_is_the_same(
        self, height, width, shift
    ):
        mask = build_window_attention_mask(height, width, 4, shift, torch.device("cpu"))
        rows, columns = height + -height % 4, width + -width % 4
        labels = torch.zeros(rows, columns)
        pieces = (slice(0, -4), slice(-4, -shift), slice(-shift, None))
        for i, r in enumerate(pieces):
            for j, c in enumerate(pieces):
                labels[r, c] = 3 * i + j
        windows = window_partition(labels[None, ..., None], 4).flatten(1)
        assert mask.shape == (rows * columns // 16, 16, 16)
        for one, window in zip(mask, windows):
            want = torch.where(window[:, None] == window[None, :], 0.0, -100.0)
            assert torch.equal(one, want)

    def test_no_shift_needs_no_mask(self):
        assert build_window_attention_mask(8, 8, 4, 0, torch.device("cpu")) is None

    @pytest.mark.parametrize("shift", [-1, 4, 5])
    def test_shift_outside_the_window_is_refused(self, shift):
        with pytest.raises(ValueError, match="shift_size"):
            build_window_attention_mask(8, 8, 4, shift, torch.device("cpu"))


class TestRelativePositions:
    @pytest.mark.parametrize("size", [1, 3, (2, 4)])
    def test_index_is_row_times_width_plus_column_of_the_offset(self, size):
        h, w = (size, size) if isinstance(size, int) else size
        index = relative_position_index(size)
        assert index.dtype == torch.int64
        for p in range(h * w):
            for q in range(h * w):
                down, right = p // w - q // w + h - 1, p % w - q % w + w - 1
                assert index[p, q] == down * (2 * w - 1) + right


class TestBiasedAttention:
    @staticmethod
    def inputs(dtype=torch.float32, batch=3, heads=2, length=5, size=4, bias_batch=1):
        torch.manual_seed(0)
        tensors = [torch.randn(batch, heads, length, size, dtype=dtype) for _ in range(3)]
        tensors.append(torch.randn(bias_batch, heads, length, length, dtype=dtype))
        return [tensor.requires_grad_() for tensor in tensors]

    @pytest.mark.parametrize("bias_batch", [1, 3])
    def test_gradients_of_first_and_second_order(self, bias_batch):
        inputs = self.inputs(torch.float64, length=3, size=2, bias_batch=bias_batch)

        def function(*tensors):
            return biased_attention(*tensors, scale=0.7)

        assert torch.autograd.gradcheck(function, inputs)
        assert torch.autograd.gradgradcheck(function, inputs)

    @pytest.mark.parametrize("length", [16, 64])
    def test_bits_do_not_depend_on_recorded_gradients_or_threads(self, length):
        leaves = self.inputs(batch=7, length=length)

        def attend():
            # As in a layer, where the bias is computed from a parameter.
            return biased_attention(*(leaf + 0 for leaf in leaves), scale=0.5)

        threads = torch.get_num_threads()
        results = [attend().detach()]
        try:
            with torch.no_grad():
                for count in (1, 2, 3):
                    torch.set_num_threads(count)
                    results.append(attend())
        finally:
            torch.set_num_threads(threads)
        assert all(torch.equal(result, results[0]) for result in results)

    def test_narrow_floats_keep_their_dtype_and_get_gradients(self):
        inputs = self.inputs(torch.bfloat16)
        wide = [tensor.detach().float().requires_grad_() for tensor in inputs]
        out, want = (biased_attention(*tensors, scale=0.5) for tensors in (inputs, wide))
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), want, atol=0.03, rtol=0.03)
        out.float().sum().backward()
        want.sum().backward()
        for narrow, full in zip(inputs, wide):
            torch.testing.assert_close(narrow.grad.float(), full.grad, atol=0.05, rtol=0.05)


class TestWindowAttention:
    def layer(self, **kwargs):
        torch.manual_seed(0)
        return strengthen(WindowAttention(6, (2, 3), 3, **kwargs)).eval()

    def test_state_dict(self):
        shapes = {key: tuple(value.shape) for key, value in self.layer().state_dict().items()}
        assert list(shapes.items()) == [
            ("relative_position_bias_table", (15, 3)),
            ("relative_position_index", (6, 6)),
            ("qkv.weight", (18, 6)),
            ("qkv.bias", (18,)),
            ("proj.weight", (6, 6)),
            ("proj.bias", (6,)),
        ]
        assert "qkv.bias" not in self.layer(qkv_bias=False).state_dict()

    @pytest.mark.parametrize("qk_scale", [None, 0.3])
    def test_each_window_attends_to_itself_alone(self, qk_scale):
        layer = self.layer(qk_scale=qk_scale)
        x = torch.randn(4, 6, 6)
        want = naive_attention(layer, x.view(4, 2, 3, 6), 0).flatten(1, 2)
        torch.testing.assert_close(layer(x), want)
        assert layer.scale == (qk_scale or 2**-0.5)

    def test_mask_belongs_to_the_windows_of_each_image(self):
        layer = self.layer()
        x = torch.randn(4, 6, 6)
        mask = 5 * torch.randn(2, 6, 6)
        want = torch.cat([layer(window[None], mask[i % 2][None]) for i, window in enumerate(x)])
        torch.testing.assert_close(layer(x, mask), want)
        assert not torch.allclose(layer(x, mask), layer(x), atol=1e-2)

    def test_loaded_index_is_the_one_used(self):
        layer = self.layer()
        x = torch.randn(1, 6, 6)
        before = layer(x)
        layer.load_state_dict(layer.state_dict() | {"relative_position_index": torch.zeros(6, 6)})
        assert not torch.allclose(layer(x), before, atol=1e-3)

    def test_dropout_of_weights_only_in_training(self):
        layer = self.layer(attn_drop=0.5)
        x = torch.randn(2, 6, 6)
        assert torch.equal(layer(x), layer(x))
        layer.train()
        assert not torch.equal(layer(x), layer(x))

    def test_fresh_table_is_narrow(self):
        table = WindowAttention(64, 8, 8).relative_position_bias_table
        assert table.std().item() == pytest.approx(0.02, rel=0.1)

    def test_misfits_are_refused(self):
        with pytest.raises(ValueError, match="dim=6, num_heads=4"):
            WindowAttention(6, 2, 4)
        with pytest.raises(ValueError, match=r"got \(1, 5, 6\)"):
            self.layer()(torch.zeros(1, 5, 6))
        with pytest.raises(ValueError, match="3 and 2"):
            self.layer()(torch.zeros(3, 6, 6), torch.zeros(2, 6, 6))


class TestWMSA:
    @settings(deadline=None, max_examples=30)
    @given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["W", "SW"]), st.integers(1, 2))
    def test_equals_plain_attention_over_the_whole_map(self, height, width, kind, batch):
        torch.manual_seed(height)
        layer = strengthen(WMSA(6, None, 3, 4, kind)).eval()
        x = torch.randn(batch, height, width, 6)
        want = layer.output_proj(naive_attention(layer.attn, x, 2 if kind == "SW" else 0))
        torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("window", [3, (4, 2)])
    def test_odd_and_oblong_windows(self, window):
        layer = strengthen(WMSA(6, None, 3, window, "SW")).eval()
        x = torch.randn(2, 8, 7, 6)
        want = layer.output_proj(naive_attention(layer.attn, x, 1))
        torch.testing.assert_close(layer(x), want, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("kind", ["W", "SW"])
    def test_gradients_equal_those_of_plain_attention(self, kind):
        layer = strengthen(WMSA(4, 4, 2, 2, kind, output_proj=False)).double()
        x = torch.randn(1, 5, 4, 4, dtype=torch.float64, requires_grad=True)
        inputs = [x, *layer.parameters()]
        weight = torch.randn(1, 5, 4, 4, dtype=torch.float64)
        naive = naive_attention(layer.attn, x, 1 if kind == "SW" else 0)
        got, want = (torch.autograd.grad((out * weight).sum(), inputs) for out in (layer(x), naive))
        torch.testing.assert_close(got, want)

    def test_maps_of_many_sizes_leave_nothing_behind(self):
        layer = WMSA(4, 4, 2, 4, "SW")
        before = {name: (id(b), b.shape) for name, b in layer.named_buffers()}
        for size in range(1, 12):
            layer(torch.zeros(1, size, size + 3, 4))
        assert {name: (id(b), b.shape) for name, b in layer.named_buffers()} == before
        assert not [key for key in layer.state_dict() if "mask" in key]

    def test_output_projection_is_optional(self):
        assert isinstance(WMSA(4, 4, 2, 4, output_proj=False).output_proj, nn.Identity)
        assert WMSA(4, 6, 2, 4)(torch.zeros(1, 4, 4, 4)).shape == (1, 4, 4, 6)

    @pytest.mark.parametrize(
        ("args", "kwargs", "name"),
        [
            ((6, 6, 4, 4), {}, "head_dim"),
            ((6, 6, 3, 4, "X"), {}, "type"),
            ((6, 8, 3, 4), {"output_proj": False}, "output_dim"),
            ((6, 6, 3, 0), {}, "window_size"),
        ],
    )
    def test_bad_arguments_are_refused_by_name(self, args, kwargs, name):
        with pytest.raises(ValueError, match=name):
            WMSA(*args, **kwargs)


class TestTimm:
    @pytest.fixture
    def without_timm(self, monkeypatch):
        for name in ("timm", "timm.layers"):
            monkeypatch.setitem(sys.modules, name, None)

    @pytest.mark.usefixtures("without_timm")
    @pytest.mark.parametrize(
        "build",
        [
            lambda: SwinBlock(6, 6, 3, 4, 0.0),
            lambda: SwinTransformerBlock(6, 3, 4),
            lambda: WinNoShiftAttention(6, 2, 4, drop_path=0.1),
        ],
    )
    def test_missing_timm_is_an_error_with_the_command_that_helps(self, build):
        with pytest.raises(ImportError, match=r"pip install 'compressai-torch\[attn\]'"):
            build()

    @pytest.mark.usefixtures("without_timm")
    def test_window_attention_alone_does_not_need_timm(self):
        block = WinNoShiftAttention(6, 2, 4, 2, output_proj=False)
        assert block(torch.zeros(1, 6, 4, 4)).shape == (1, 6, 4, 4)

    def test_error_inside_timm_is_not_mistaken_for_its_absence(self, monkeypatch):
        def broken(name):
            raise ModuleNotFoundError("No module named 'yaml'", name="yaml")

        monkeypatch.setattr(importlib, "import_module", broken)
        with pytest.raises(ModuleNotFoundError, match="yaml"):
            SwinBlock(6, 6, 3, 4, 0.0)

    def test_importing_layers_and_attention_does_not_import_timm(self):
        code = (
            "import sys, compressai.layers, compressai.layers.attn;"
            "assert not [m for m in sys.modules if m.partition('.')[0] == 'timm']"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


class TestNames:
    @pytest.mark.parametrize("module", ["compressai.layers.attn", "compressai.layers.attn.swin"])
    def test_both_modules_hold_every_name(self, module):
        module = importlib.import_module(module)
        assert all(getattr(module, name) is getattr(attn, name) for name in module.__all__)
        with pytest.raises(AttributeError, match="WindowAttn"):
            _ = module.WindowAttn

    @pytest.mark.parametrize("module", ["compressai.layers.attn", "compressai.layers.attn.swin"])
    def test_former_name_of_the_attention_module_warns(self, module):
        module = importlib.import_module(module)
        with pytest.warns(DeprecationWarning, match="WinNoShiftAttention"):
            assert module.Win_noShift_Attention is WinNoShiftAttention


class TestRememberedBias:
    @staticmethod
    def attention() -> WMSA:
        torch.manual_seed(0)
        return WMSA(8, 8, 4, 4, type="SW").eval()

    def test_bias_is_gathered_once(self, monkeypatch):
        msa, x = self.attention(), torch.rand(1, 8, 8, 8)
        calls = []
        gather = WindowAttention.relative_position_bias
        monkeypatch.setattr(
            WindowAttention,
            "relative_position_bias",
            lambda self: (calls.append(1), gather(self))[1],
        )
        with torch.no_grad():
            first = msa(x)
            # One for each kind of window: inner, right, bottom, corner.
            assert len(calls) == 4
            assert torch.equal(msa(x), first)
        assert len(calls) == 4

    @pytest.mark.parametrize("through_data", [True, False])
    def test_change_of_the_table_is_noticed(self, through_data):
        msa, x = self.attention(), torch.rand(1, 8, 8, 8)
        with torch.no_grad():
            before = msa(x)
            table = msa.attn.relative_position_bias_table
            (table.data if through_data else table).normal_()
            after = msa(x)
        assert not torch.equal(before, after)
        assert torch.equal(after, msa(x).detach())

    def test_what_inference_remembers_serves_training_of_other_weights(self):
        msa, x = self.attention(), torch.rand(1, 8, 8, 8)
        with torch.inference_mode():
            expected = msa(x)
        msa.attn.relative_position_bias_table.requires_grad_(False)
        out = msa(x)
        out.sum().backward()
        assert torch.equal(out.detach(), expected)
        assert msa.attn.qkv.weight.grad is not None
