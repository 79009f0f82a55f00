// SPDX-License-Identifier: BSD-3-Clause-Clear
// The function selective_scan of compressai._kernels.
#pragma once

#include <nanobind/nanobind.h>

namespace compressai {

void bind_selective_scan(nanobind::module_& m);

}  // namespace compressai
