// SPDX-License-Identifier: BSD-3-Clause-Clear
// Division by the frequencies 1..65536 as a multiplication: exact for every state below 2^63
// (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 1994).
#pragma once

#include <cstdint>

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

namespace compressai {

// Entry f - 1 is ceil(2^(63 + s) / f) with s = ceil(log2 f), so it uses all 64 bits and
// floor(x / f) = multiply_high(x, entry) >> (s - 1). Only f = 1 would need a shift by -1: its entry
// is 2^64 - 1, which gives x - 1. Made on first use, shared by all threads.
const std::uint64_t* reciprocal_table();

inline std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {
#if defined(__SIZEOF_INT128__)
  __extension__ typedef unsigned __int128 uint128;
  return static_cast<std::uint64_t>(static_cast<uint128>(a) * b >> 64);
#elif defined(_MSC_VER)
  return __umulh(a, b);
#else
  const std::uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
  return a1 * b1 + (middle >> 32) + (((middle & 0xffffffff) + a0 * b1) >> 32);
#endif
}

// Number of the highest bit of `value`, which is not 0.
inline int highest_bit(std::uint32_t value) {
#if defined(_MSC_VER) && !defined(__clang__)
  unsigned long bit;
  _BitScanReverse(&bit, value);
  return static_cast<int>(bit);
#else
  return 31 ^ __builtin_clz(value);
#endif
}

}  // namespace compressai
