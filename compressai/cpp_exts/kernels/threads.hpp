// SPDX-License-Identifier: BSD-3-Clause-Clear
// How the work of a kernel is shared by threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "../team.hpp"
#include "common.hpp"

namespace compressai {

inline std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Calls work(scratch, first, count) for all blocks of up to `size` items. The caller's thread keeps
// the scratch memory of all threads for the next layer, and it holds what that left there. It is
// allocated here, because an error could not leave the team.
template <typename Work>
void for_blocks(std::size_t items, std::size_t size, int threads, std::size_t memory,
                const Work& work) {
  thread_local std::vector<float> kept;
  const std::ptrdiff_t blocks = static_cast<std::ptrdiff_t>((items + size - 1) / size);
  const int team =
      static_cast<int>(std::min<std::ptrdiff_t>(std::min(threads, kMostThreads), blocks));
  const std::size_t whole = static_cast<std::size_t>(team) * memory;
  if (kept.size() < whole) kept.resize(whole);
  float* const scratch = kept.data();
  share_items(blocks, team, [&](std::size_t thread, std::ptrdiff_t i) {
    const std::size_t first = static_cast<std::size_t>(i) * size;
    work(scratch + thread * memory, first, std::min(size, items - first));
  });
}

// Up to `most` items in whole groups of rows, such that all threads get as many blocks. There are some
// items.
inline std::size_t block_size(std::size_t items, std::size_t most, int threads) {
  const std::size_t blocks = round_up((items + most - 1) / most, static_cast<std::size_t>(threads));
  return std::min(most, round_up((items + blocks - 1) / blocks, kRowGroup));
}

}  // namespace compressai
