// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "reciprocals.hpp"

#include <vector>

#include "rans_format.hpp"

namespace compressai {
namespace {

// ceil(2^(63 + s) / f) by long division in two 32-bit digits, without a 128-bit type.
std::uint64_t reciprocal(std::uint32_t frequency) {
  if (frequency == 1) return ~std::uint64_t{0};
  const int s = highest_bit(frequency - 1) + 1;
  std::uint64_t digits = std::uint64_t{1} << (s - 1);  // 2^(s - 1), then 64 zero bits
  std::uint64_t quotient = 0;
  for (int half = 0; half < 2; ++half) {
    digits <<= 32;
    quotient = quotient << 32 | digits / frequency;
    digits %= frequency;
  }
  return quotient + (digits != 0);
}

}  // namespace

const std::uint64_t* reciprocal_table() {
  static const std::vector<std::uint64_t> table = [] {
    std::vector<std::uint64_t> entries(kTotal);
    for (std::uint32_t f = 1; f <= kTotal; ++f) entries[f - 1] = reciprocal(f);
    return entries;
  }();
  return table.data();
}

}  // namespace compressai
