// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "latent_symbols.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace compressai {
namespace {

// From here on every float is an integer.
constexpr float kIntegers = 1 << 23;
constexpr float kLimit = 2147483648.0f;

// Adding and subtracting 1.5 * 2^23 rounds halves to even, as the processor does, without a call.
float round_even(float value) {
  constexpr float magic = 1.5f * kIntegers;
  return std::abs(value) < kIntegers / 2 ? (value + magic) - magic : std::nearbyint(value);
}

std::int32_t row_of(float scale, const ScaleLevels& levels, std::size_t first) {
  if (std::isnan(scale)) return static_cast<std::int32_t>(levels.size() - 1);
  return static_cast<std::int32_t>(std::max(levels.below(scale), first));
}

}  // namespace

void scale_rows(const float* scales, std::size_t count, const ScaleLevels& levels,
                std::size_t first, std::int32_t* rows) {
  for (std::size_t i = 0; i < count; ++i) rows[i] = row_of(scales[i], levels, first);
}

void symbols_and_rows(const float* values, const float* means, const float* scales,
                      std::size_t count, const ScaleLevels& levels, std::size_t first,
                      std::int32_t* symbols, std::int32_t* rows) {
  for (std::size_t i = 0; i < count; ++i) {
    const float symbol = round_even(means == nullptr ? values[i] : values[i] - means[i]);
    if (!(std::abs(symbol) < kLimit)) {
      throw std::invalid_argument("element " + std::to_string(i) +
                                  " of the latent is no int32 after rounding, but " +
                                  std::to_string(symbol) +
                                  ": the network has diverged or the input is not finite");
    }
    symbols[i] = static_cast<std::int32_t>(symbol);
    rows[i] = row_of(scales[i], levels, first);
  }
}

}  // namespace compressai
