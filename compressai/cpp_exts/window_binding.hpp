// SPDX-License-Identifier: BSD-3-Clause-Clear
// The function window_block of compressai._kernels.
#pragma once

#include <nanobind/nanobind.h>

namespace compressai {

void bind_window_block(nanobind::module_& m);

}  // namespace compressai
