// SPDX-License-Identifier: BSD-3-Clause-Clear
// From a latent and its predicted distribution to the integers that are coded, in one pass.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sync_grid.hpp"

namespace compressai {

// The row of the first level that is not smaller, `first` at least; the last row for NaN.
void scale_rows(const float* scales, std::size_t count, const ScaleLevels& levels,
                std::size_t first, std::int32_t* rows);

// Rows as above, and symbols: values less means (if any), rounded, halves to even. Throws
// std::invalid_argument for a symbol that is no int32, or NaN.
void symbols_and_rows(const float* values, const float* means, const float* scales,
                      std::size_t count, const ScaleLevels& levels, std::size_t first,
                      std::int32_t* symbols, std::int32_t* rows);

// Symbols of an encoder with a dead zone, otherwise as above. A residual between two integers n and
// n + 1 becomes the upper one only if it lies above their middle by more than
// dead_zone * (2 n + 1) / (scale^2 + 1/12).
void dead_zone_symbols(const float* values, const float* means, const float* scales,
                       std::size_t count, float dead_zone, std::int32_t* symbols);

}  // namespace compressai
