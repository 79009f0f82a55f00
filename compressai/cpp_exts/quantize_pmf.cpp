// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "quantize_pmf.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace compressai {
namespace {

// Gives every symbol without frequency one unit, taken from the symbol with the smallest
// frequency above 1 (the first of equals). A donor stays the smallest until it is down to 1, and
// receivers never become donors. So one sort tells the order in which donors are used up, where
// the definition looks through all symbols for each unit.
void share(std::vector<std::uint32_t>& frequencies, std::size_t zeros) {
  std::vector<std::pair<std::uint32_t, std::size_t>> donors;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    if (frequencies[i] > 1) donors.emplace_back(frequencies[i], i);
  }
  std::sort(donors.begin(), donors.end());
  for (std::uint32_t& frequency : frequencies) {
    if (frequency == 0) frequency = 1;
  }
  for (const auto& [frequency, i] : donors) {
    const std::size_t taken = std::min<std::size_t>(zeros, frequency - 1);
    frequencies[i] -= static_cast<std::uint32_t>(taken);
    zeros -= taken;
    if (zeros == 0) break;
  }
}

// As many digits as tell the number from its neighbours: `std::to_string` has six decimals, in which
// small numbers are 0.
std::string in_full(float value) {
  char digits[32];
  for (int precision = 6; precision <= 9; ++precision) {
    std::snprintf(digits, sizeof digits, "%.*g", precision, static_cast<double>(value));
    if (std::strtof(digits, nullptr) == value) break;
  }
  return digits;
}

}  // namespace

void quantize_pmf(const float* pmf, std::size_t count, int precision, std::uint32_t* cdf) {
  if (precision < 0 || precision > kMaxPrecision) {
    throw std::invalid_argument("precision must be in 0..31, got " + std::to_string(precision));
  }
  const std::uint64_t total = std::uint64_t{1} << precision;
  constexpr std::uint64_t kWeightMax = std::numeric_limits<std::uint32_t>::max();
  const double scale = static_cast<double>(total);

  std::vector<std::uint32_t> frequencies(count);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!(pmf[i] >= 0.0f) || pmf[i] > std::numeric_limits<float>::max()) {
      throw std::invalid_argument("pmf[" + std::to_string(i) +
                                  "] must be a finite number of at least 0, got " +
                                  in_full(pmf[i]));
    }
    // Exact in double precision: a float has 24 significant bits, so adding 0.5 never rounds up
    // across an integer. The conversion cuts, together this rounds halves up.
    const double weight = static_cast<double>(pmf[i]) * scale + 0.5;
    if (weight >= 4294967296.0 || (sum += static_cast<std::uint64_t>(weight)) > kWeightMax) {
      throw std::invalid_argument("pmf times 2^precision must sum to less than 2^32, exceeded at " +
                                  ("pmf[" + std::to_string(i) + "] = ") + in_full(pmf[i]));
    }
    frequencies[i] = static_cast<std::uint32_t>(weight);
  }
  if (sum == 0) {
    throw std::invalid_argument("pmf must have an element of at least half of 2^-precision, got " +
                                std::to_string(count) + " elements below it");
  }
  if (count > total) {
    throw std::invalid_argument("pmf must not have more than 2^precision = " +
                                std::to_string(total) + " elements, got " + std::to_string(count));
  }

  std::uint64_t given = 0;
  for (std::size_t i = 0; i + 1 < count; ++i) {
    frequencies[i] = static_cast<std::uint32_t>(total * frequencies[i] / sum);
    given += frequencies[i];
  }
  frequencies[count - 1] = static_cast<std::uint32_t>(total - given);
  const auto zeros = static_cast<std::size_t>(
      std::count(frequencies.begin(), frequencies.end(), std::uint32_t{0}));
  if (zeros != 0) share(frequencies, zeros);

  cdf[0] = 0;
  for (std::size_t i = 0; i < count; ++i) cdf[i + 1] = cdf[i] + frequencies[i];
}

}  // namespace compressai
