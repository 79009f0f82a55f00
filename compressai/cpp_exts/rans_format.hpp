// SPDX-License-Identifier: BSD-3-Clause-Clear
// The constants of the stream format and the byte order of its words. Nothing here depends on
// Python; every other file of the coder builds on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace compressai {

constexpr int kPrecision = 16;                          // bits of a cumulative frequency
constexpr std::uint32_t kTotal = 1u << kPrecision;      // the sum of all frequencies of a row
constexpr std::uint64_t kStateLow = std::uint64_t{1} << 31;   // states are in [2^31, 2^63)
constexpr std::uint64_t kStateHigh = std::uint64_t{1} << 63;
constexpr int kWordBytes = 4;
constexpr int kStateBytes = 8;

// An interleaved message has several states, which take turns symbol by symbol and share the words.
// They do not wait for each other. The first one is marked by the bit that no state has.
constexpr std::size_t kLanes = 4;
constexpr std::uint64_t kInterleavedMark = kStateHigh;
// Messages that are shorter in the plain layout keep it: three states more take 28 bytes at most,
// which is less than 0.1 % from here on.
constexpr std::size_t kInterleavedBytes = 32768;

// Escaped values follow their escape slot as nibbles: a count, then the digits, lowest first.
constexpr int kNibbleBits = 4;
constexpr std::uint32_t kNibbleMax = (1u << kNibbleBits) - 1;
constexpr std::uint64_t kNibbleEmit = std::uint64_t{1} << (63 - kNibbleBits);
// An int32 symbol less an int32 offset, mapped to unsigned, takes at most 34 bits. So the count
// always fits one nibble, although the format could spread it over several.
constexpr int kMaxDigits = 9;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
inline std::uint32_t little_endian(std::uint32_t word) { return __builtin_bswap32(word); }
#else
inline std::uint32_t little_endian(std::uint32_t word) { return word; }
#endif

inline std::uint32_t load_word(const std::uint8_t* bytes) {
  std::uint32_t word;
  std::memcpy(&word, bytes, sizeof word);
  return little_endian(word);
}

inline void store_word(std::uint8_t* bytes, std::uint32_t word) {
  word = little_endian(word);
  std::memcpy(bytes, &word, sizeof word);
}

inline bool is_interleaved(const std::uint8_t* stream, std::size_t size) {
  return size >= static_cast<std::size_t>(kStateBytes) && (stream[kStateBytes - 1] & 0x80) != 0;
}

#if defined(__GNUC__) || defined(__clang__)
#define COMPRESSAI_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define COMPRESSAI_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define COMPRESSAI_NOINLINE __attribute__((noinline, cold))
#else
#define COMPRESSAI_LIKELY(condition) (condition)
#define COMPRESSAI_UNLIKELY(condition) (condition)
#define COMPRESSAI_NOINLINE
#endif

}  // namespace compressai
