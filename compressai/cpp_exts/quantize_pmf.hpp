// SPDX-License-Identifier: BSD-3-Clause-Clear
// From probabilities to integer frequencies. Part of the stream format: encoder and decoder must
// get the same integers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace compressai {

constexpr int kMaxPrecision = 31;

// Writes the `count` + 1 cumulative frequencies of the `count` probabilities to `cdf`: 0 first,
// 2^precision last, strictly increasing. Throws std::invalid_argument if a probability is
// negative, NaN or infinite, if all of them round to 0, if the frequencies overflow 32 bits, if
// there are more than 2^precision of them, or if the precision is not in 0..31.
void quantize_pmf(const float* pmf, std::size_t count, int precision, std::uint32_t* cdf);

}  // namespace compressai
