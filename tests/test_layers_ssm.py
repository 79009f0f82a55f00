# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Selective scans: every way to compute them gives one result; directions, blocks, and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compressai import _kernels
from compressai.layers.ssm import (
    SS2D,
    VSSBlock,
    build_vss_backbone,
    build_vss_context_stage,
    cross_merge,
    cross_scan,
    cross_selective_scan,
    get_selective_scan_backend,
    infer_vss_block_kwargs,
    infer_vss_depths,
    selective_scan,
    selective_scan_ref,
    ssm_ops,
)

needs_kernels = pytest.mark.skipif(not _kernels.available(), reason="no kernels for the processor")


def arguments(
    batch: int = 2, groups: int = 2, width: int = 3, states: int = 4, length: int = 150, **to: Any
) -> dict[str, Tensor]:
    torch.manual_seed(3)
    channels = groups * width
    some = {
        "u": torch.randn(batch, channels, length),
        "delta": torch.randn(batch, channels, length) - 2,
        "A": -torch.rand(channels, states) * 8,
        "B": torch.randn(batch, groups, states, length),
        "C": torch.randn(batch, groups, states, length),
        "D": torch.randn(channels),
        "delta_bias": torch.randn(channels),
    }
    return {name: value.to(**to) for name, value in some.items()}


def map_arguments(channels: int, states: int, rank: int) -> tuple[Tensor, ...]:
    torch.manual_seed(4)
    return (
        torch.randn(4, rank + 2 * states, channels) * channels**-0.5,
        torch.randn(4, rank + 2 * states),
        torch.randn(4, channels, rank),
        torch.randn(4, channels) - 3,
        torch.randn(4 * channels, states),
        torch.randn(4 * channels),
    )


class TestSelectiveScan:
    @settings(max_examples=30, deadline=None)
    @given(
        batch=st.integers(1, 3),
        groups=st.integers(1, 3),
        width=st.integers(1, 19),
        states=st.sampled_from([1, 3, 4, 8, 16, 17]),
        length=st.integers(1, 140),
        backend=st.sampled_from(["torch", "auto"]),
    )
    def test_fast_ones_compute_the_definition(self, backend: str, **sizes: int) -> None:
        given = arguments(**sizes)
        want = selective_scan_ref(**{k: v.double() for k, v in given.items()})
        got = selective_scan(**given, backend=backend)
        assert got.dtype == torch.float32
        assert torch.allclose(got.double(), want, atol=2e-5, rtol=2e-5)

    @pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_kernels)])
    def test_results_are_finite_where_all_decays(self, backend: str) -> None:
        given = arguments()
        given["A"] *= 1000
        given["delta"] *= 30
        want = selective_scan_ref(**{k: v.double() for k, v in given.items()})
        got = selective_scan(**given, backend=backend)
        assert torch.allclose(got.double(), want, atol=1e-3, rtol=1e-4)

    def test_bfloat16_is_widened(self) -> None:
        half = arguments(dtype=torch.bfloat16)
        single = {name: value.float() for name, value in half.items()}
        got = selective_scan(**half)
        assert got.dtype == torch.bfloat16
        assert torch.equal(got, selective_scan(**single).bfloat16())

    @pytest.mark.parametrize("without", [(), ("D",), ("delta_bias", "D")])
    @pytest.mark.parametrize("softplus", [True, False])
    def test_derivative_is_that_of_the_definition(self, softplus: bool, without: tuple) -> None:
        given = arguments(length=70, dtype=torch.float64)
        if not softplus:
            given["delta"] = given["delta"].abs() / 9
        given = {k: v.requires_grad_() for k, v in given.items() if k not in without}
        weight = torch.randn_like(given["u"])
        grads = []
        for scan in (selective_scan, selective_scan_ref):
            y = scan(**given, delta_softplus=softplus)
            grads.append(torch.autograd.grad((y * weight).sum(), list(given.values())))
        for name, got, want in zip(given, *grads):
            assert torch.allclose(got, want, rtol=1e-9, atol=1e-9), name

    def test_states_are_not_kept_for_the_derivative(self) -> None:
        given = arguments(length=640, states=16)
        given["u"].requires_grad_()
        saved: list[int] = []

        def pack(t: Tensor) -> Tensor:
            saved.append(t.numel())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            selective_scan(**given)
        # All states would be 16 times u.
        inputs = sum(value.numel() for value in given.values())
        assert sum(saved) <= inputs + given["u"].numel() * 16 / 64

    def test_one_group_needs_no_axis(self) -> None:
        given = arguments(groups=1)
        flat = {**given, "B": given["B"][:, 0], "C": given["C"][:, 0]}
        for scan in (selective_scan, selective_scan_ref):
            assert torch.equal(scan(**given), scan(**flat))

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"backend": "fast"}, "backend must be one of auto, native"),
            ({"backend": "mamba_ssm"}, "'mamba_ssm' cannot compute this"),
            ({"backend": "native", "delta_softplus": False}, "'native' cannot compute this"),
            ({"B": torch.rand(2, 4, 4, 150)}, "u must have a multiple of 4 channels"),
            ({"delta": torch.rand(2, 6, 149)}, r"delta must be \(2, 6, 150\)"),
            ({"D": torch.rand(5)}, r"D must be \(6,\), got \(5,\)"),
            ({"A": torch.rand(6)}, "A 2"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, change: dict, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            selective_scan(**{**arguments(), **change})

    def test_native_is_refused_with_gradients(self) -> None:
        given = arguments()
        given["A"].requires_grad_()
        with pytest.raises(ValueError, match="without gradients"):
            selective_scan(**given, backend="native")
        assert selective_scan(**given).requires_grad

    def test_backend_depends_on_device_and_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = "native" if _kernels.available() else "torch"
        assert get_selective_scan_backend("cpu") == cpu
        monkeypatch.setattr(ssm_ops, "find_spec", lambda name: None)
        assert get_selective_scan_backend() == "torch"
        monkeypatch.setattr(ssm_ops, "find_spec", lambda name: name)
        assert get_selective_scan_backend() == "mamba_ssm"


class TestDirections:
    def test_sequences_read_rows_and_columns(self) -> None:
        x = torch.arange(6.0).view(1, 1, 2, 3)
        assert cross_scan(x)[0, :, 0].tolist() == [
            [0, 1, 2, 3, 4, 5],
            [0, 3, 1, 4, 2, 5],
            [5, 4, 3, 2, 1, 0],
            [5, 2, 4, 1, 3, 0],
        ]

    def test_merging_adds_up_at_the_places_read(self) -> None:
        x = torch.randn(2, 3, 5, 4)
        merged = cross_merge(cross_scan(x).unflatten(-1, (5, 4)))
        assert torch.allclose(merged, 4 * x.flatten(2))

    def test_other_numbers_of_directions_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"ys must be \(N, 4, C, H, W\), got \(1, 3,"):
            cross_merge(torch.zeros(1, 3, 2, 4, 4))

    @pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=needs_kernels)])
    @pytest.mark.parametrize(
        ("channels", "states", "rank", "size"),
        [(5, 3, 2, (7, 4)), (32, 16, 2, (3, 12)), (24, 4, 1, (1, 70)), (16, 16, 3, (9, 8))],
    )
    def test_a_map_is_scanned_in_all_directions(
        self, channels: int, states: int, rank: int, size: tuple[int, int], backend: str
    ) -> None:
        weights = map_arguments(channels, states, rank)
        x = torch.randn(2, channels, *size)
        got = cross_selective_scan(x, *weights, scan_backend=backend)
        x_proj, x_bias, dt_proj, dt_bias, a_logs, skip = (w.double() for w in weights)
        sequences = cross_scan(x.double())
        params = torch.einsum("bkdl,kcd->bkcl", sequences, x_proj) + x_bias[..., None]
        steps, b, c = params.split((rank, states, states), dim=2)
        ys = selective_scan_ref(
            sequences.flatten(1, 2),
            torch.einsum("bkrl,kdr->bkdl", steps, dt_proj).flatten(1, 2),
            -a_logs.exp(),
            *(b, c, skip, dt_bias.flatten()),
        )
        want = cross_merge(ys.view(2, 4, channels, *size))
        assert got.shape == (2, *size, channels)
        assert torch.allclose(got.double().flatten(1, 2).mT, want, atol=2e-4, rtol=2e-5)

    @pytest.mark.parametrize("softplus", [True, False])
    def test_steps_are_as_projected_if_asked(self, softplus: bool) -> None:
        x_proj, x_bias, dt_proj, dt_bias, a_logs, skip = map_arguments(6, 3, 2)
        # Steps below zero would let states grow without end.
        dt_proj, dt_bias = 0.01 * dt_proj, torch.ones_like(dt_bias)
        x = torch.rand(1, 6, 3, 4)
        weights = (x_proj, x_bias, dt_proj, dt_bias, a_logs, skip)
        got = cross_selective_scan(x, *weights, delta_softplus=softplus)
        params = torch.einsum("bkdl,kcd->bkcl", cross_scan(x), x_proj) + x_bias[..., None]
        steps, b, c = params.split((2, 3, 3), dim=2)
        ys = selective_scan_ref(
            cross_scan(x).flatten(1, 2),
            torch.einsum("bkrl,kdr->bkdl", steps, dt_proj).flatten(1, 2),
            -a_logs.exp(),
            *(b, c, skip, dt_bias.flatten()),
            delta_softplus=softplus,
        )
        want = cross_merge(ys.view(1, 4, 6, 3, 4))
        assert torch.allclose(got.flatten(1, 2).mT, want, atol=2e-4, rtol=1e-4)

    def test_the_sum_is_normalised_in_either_shape(self) -> None:
        weights = map_arguments(6, 3, 2)
        x = torch.randn(2, 6, 3, 4)
        plain = cross_selective_scan(x, *weights)
        norm = torch.nn.LayerNorm(6)
        assert torch.equal(cross_selective_scan(x, *weights, out_norm=norm), norm(plain))
        norms = torch.nn.GroupNorm(2, 6)
        got = cross_selective_scan(x, *weights, out_norm=norms, out_norm_shape="v1")
        assert torch.equal(got, norms(plain.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        with pytest.raises(ValueError, match="out_norm_shape must be 'v0' or 'v1', got 'v2'"):
            cross_selective_scan(x, *weights, out_norm_shape="v2")

    def test_the_type_is_that_of_the_map_unless_told(self) -> None:
        weights = map_arguments(6, 3, 2)
        x = torch.randn(1, 6, 3, 4).bfloat16()
        exact = cross_selective_scan(x, *weights, to_dtype=False)
        assert exact.dtype == torch.float32
        assert torch.equal(cross_selective_scan(x, *weights), exact.bfloat16())

    @needs_kernels
    def test_native_results_do_not_depend_on_threads_or_batch(self) -> None:
        weights = map_arguments(40, 16, 3)
        x = torch.randn(3, 40, 6, 7)
        before = torch.get_num_threads()
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(cross_selective_scan(x, *weights, scan_backend="native"))
        torch.set_num_threads(before)
        assert torch.equal(*results)
        alone = cross_selective_scan(x[1:2], *weights, scan_backend="native")
        assert torch.allclose(alone, results[0][1:2], atol=1e-6)


class TestBlocks:
    def test_initial_steps_and_rates(self) -> None:
        block = SS2D(d_model=20, d_state=3, ssm_ratio=1.5, dt_init="constant", dt_scale=2)
        steps = torch.nn.functional.softplus(block.dt_projs_bias).detach()
        assert float(steps.min()) >= 0.001 * 0.999
        assert float(steps.max()) <= 0.1 * 1.001
        assert block.dt_projs_weight.shape == (4, 30, 2)
        assert torch.allclose(block.dt_projs_weight, torch.tensor(2**0.5))
        assert torch.allclose(block.A_logs.exp(), torch.tensor([1.0, 2, 3]).expand(120, 3))
        assert [n for n, p in block.named_parameters() if hasattr(p, "_no_weight_decay")] == [
            "A_logs",
            "Ds",
        ]

    def test_half_weights_scan_in_single_precision(self) -> None:
        torch.manual_seed(0)
        block = SS2D(d_model=16, d_state=4).eval()
        x = torch.randn(1, 8, 8, 16)
        with torch.no_grad():
            want = block(x)
            got = block.bfloat16()(x.bfloat16())
        assert got.dtype == torch.bfloat16
        assert float((got.float() - want).norm() / want.norm()) < 0.03

    @pytest.mark.parametrize("post_norm", [False, True])
    def test_block_trains_and_keeps_the_layout(self, post_norm: bool) -> None:
        torch.manual_seed(0)
        block = VSSBlock(16, post_norm=post_norm, d_state=4)
        x = torch.randn(2, 16, 5, 6)
        out = block(x)
        out.square().sum().backward()
        assert out.shape == x.shape
        assert out.is_contiguous()
        last = x.contiguous(memory_format=torch.channels_last)
        assert block(last).is_contiguous(memory_format=torch.channels_last)
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name

    # The first use of torch.utils.checkpoint imports the compiler, which takes seconds.
    @pytest.mark.slow
    def test_checkpoint_gives_the_same_gradients(self) -> None:
        grads = []
        for use_checkpoint in (False, True):
            torch.manual_seed(0)
            block = VSSBlock(8, use_checkpoint=use_checkpoint, d_state=2)
            x = torch.randn(1, 8, 4, 4, requires_grad=True)
            block(x).square().sum().backward()
            grads.append(x.grad)
        assert torch.equal(*grads)

    @pytest.mark.parametrize(
        ("bad", "match"),
        [
            ({"dt_init": "zero"}, "dt_init must be one of random, constant"),
            ({"initialize": "v1"}, "initialize must be one of v0"),
            ({"forward_type": "v2noz"}, "forward_type must be one of v1, v2"),
            ({"scan_backend": "gpu"}, "scan_backend must be one of auto"),
        ],
    )
    def test_unknown_kinds_are_refused(self, bad: dict, match: str) -> None:
        with pytest.raises(ValueError, match=match):
            VSSBlock(8, **bad)

    def test_default_normalisation_of_a_block_is_finer(self) -> None:
        assert VSSBlock(8).norm.eps == 1e-6
        assert VSSBlock(8, norm_layer=nn.LayerNorm).norm.eps == 1e-5


class TestBuilders:
    def test_sizes_are_read_off_what_is_built(self) -> None:
        sizes = {"ssm_d_state": 4, "ssm_ratio": 1.5, "ssm_conv": 1}
        nets = build_vss_backbone((1, 0, 2, 3), 0.1, 8, 12, 10, **sizes)
        assert [len(net) for net in nets] == [7, 7, 5, 5, 5]
        x = torch.rand(1, 3, 64, 64)
        y = nets.g_a(x)
        assert y.shape == (1, 12, 4, 4)
        assert nets.g_s(y).shape == x.shape
        z = nets.h_a(y)
        assert z.shape == (1, 10, 1, 1)
        assert nets.h_mean_s(z).shape == nets.h_scale_s(z).shape == y.shape
        for name in ("h_a", "latent_codec.h_a"):
            weights = {f"g_a.{k}": v for k, v in nets.g_a.state_dict().items()}
            weights |= {f"{name}.{k}": v for k, v in nets.h_a.state_dict().items()}
            assert infer_vss_depths(weights) == (1, 0, 2, 3)
            assert infer_vss_block_kwargs(weights) == sizes
        kept = {k: v for k, v in weights.items() if not k.startswith("g_a.6.")}
        with pytest.raises(ValueError, match=r"g_a and latent_codec\.h_a have 2 and 1 stages"):
            infer_vss_depths(kept)
        with pytest.raises(ValueError, match=r"needs an entry g_a\.1\.op\.out_proj\.weight"):
            infer_vss_block_kwargs({k: v for k, v in weights.items() if "out_proj" not in k})

    def test_without_blocks_arguments_are_the_default_ones(self) -> None:
        nets = build_vss_backbone((0, 0, 0, 0), 0.0, 8, 12)
        weights = {f"g_a.{k}": v for k, v in nets.g_a.state_dict().items()}
        assert nets.h_a[-1].out_channels == 192
        assert infer_vss_block_kwargs(weights) == {
            "ssm_d_state": 16,
            "ssm_ratio": 2.0,
            "ssm_conv": 3,
        }

    def test_arguments_go_by_either_name(self) -> None:
        stage = build_vss_context_stage([0.0, 0.1], 8, 5, ssm_d_state=3, ssm_drop_rate=0.5)
        assert [type(layer).__name__ for layer in stage] == ["VSSBlock", "VSSBlock", "Conv2d"]
        assert stage[0].op.A_logs.shape[1] == 3
        assert stage[0].op.dropout.p == 0.5
        assert stage(torch.rand(1, 8, 4, 4)).shape == (1, 5, 4, 4)
        same = build_vss_context_stage([0.0], 8, 5, d_state=3)
        assert same[0].op.A_logs.shape == stage[0].op.A_logs.shape
        with pytest.raises(TypeError, match="ssm_d_state and d_state, which are one argument"):
            build_vss_context_stage([0.0], 8, 5, d_state=3, ssm_d_state=3)
        with pytest.raises(TypeError, match="unexpected keyword argument"):
            build_vss_backbone((1, 1, 1, 1), 0.0, 8, 12, state=3)

    def test_four_depths_are_needed(self) -> None:
        for depths in ((1, 1, 1), (1, 1, 1, -1)):
            with pytest.raises(ValueError, match="depths must have four entries, none negative"):
                build_vss_backbone(depths, 0.0, 8, 12)
