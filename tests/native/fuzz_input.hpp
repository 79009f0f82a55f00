// SPDX-License-Identifier: BSD-3-Clause-Clear
// What the parts of the fuzzer share: the input that they take their choices from, and a check that
// stays in builds with NDEBUG.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>

#define REQUIRE(condition)                                                       \
  do {                                                                           \
    if (!(condition)) {                                                          \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);       \
      std::abort();                                                              \
    }                                                                            \
  } while (false)

// Takes values from the input; zeros when it is used up.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : data_(data), end_(data + size) {}

  std::uint32_t byte() { return data_ == end_ ? 0 : *data_++; }
  std::uint32_t word() { return byte() | byte() << 8 | byte() << 16 | byte() << 24; }
  std::uint32_t below(std::uint32_t bound) { return word() % bound; }
  bool one_in(std::uint32_t n) { return byte() % n == n - 1; }

 private:
  const std::uint8_t* data_;
  const std::uint8_t* end_;
};

inline std::int32_t any_int(Input& input) {
  const std::uint32_t kind = input.byte();
  if (kind < 200) return static_cast<std::int32_t>(input.byte()) - 128;
  if (kind < 220) return std::numeric_limits<std::int32_t>::min() + static_cast<int>(kind % 4);
  if (kind < 240) return std::numeric_limits<std::int32_t>::max() - static_cast<int>(kind % 4);
  return static_cast<std::int32_t>(input.word());
}

// fuzz_sync.cpp
void fuzz_sync(Input& input);
void fuzz_symbols(Input& input);
// fuzz_scan.cpp
void fuzz_scan(Input& input);
