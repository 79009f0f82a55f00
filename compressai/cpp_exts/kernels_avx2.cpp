// SPDX-License-Identifier: BSD-3-Clause-Clear
#define KERNEL(name) name##_avx2
#define KERNEL_LANES 8
#define KERNEL_ROWS 6
#include "kernel_common.inl"
#include "depthwise_kernel.inl"
#include "pointwise_kernel.inl"
#include "scan_kernel.inl"
#include "window_kernel.inl"
#include "winograd_kernel.inl"
