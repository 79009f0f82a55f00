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

std::int32_t checked(float symbol, std::size_t place) {
  if (!(std::abs(symbol) < kLimit)) {
    throw std::invalid_argument("element " + std::to_string(place) +
                                " of the latent is no int32 after rounding, but " +
                                std::to_string(symbol) +
                                ": the network has diverged or the input is not finite");
  }
  return static_cast<std::int32_t>(symbol);
}

float residual(const float* values, const float* means, std::size_t place) {
  return means == nullptr ? values[place] : values[place] - means[place];
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
    symbols[i] = checked(round_even(residual(values, means, i)), i);
    rows[i] = row_of(scales[i], levels, first);
  }
}

void dead_zone_symbols(const float* values, const float* means, const float* scales,
                       std::size_t count, float dead_zone, std::int32_t* symbols) {
  // Rounding adds the variance of a uniform distribution to what is predicted.
  constexpr float rounding = 1.0f / 12;
  for (std::size_t i = 0; i < count; ++i) {
    const float value = residual(values, means, i), size = std::abs(value);
    const float low = std::floor(size), scale = std::max(scales[i], 0.0f);
    const float width = dead_zone * (2 * low + 1) / (scale * scale + rounding);
    const float symbol = size - low > 0.5f + width ? low + 1 : low;
    symbols[i] = checked(std::copysign(symbol, value), i);
  }
}

}  // namespace compressai
