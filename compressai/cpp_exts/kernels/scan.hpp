// SPDX-License-Identifier: BSD-3-Clause-Clear
// The selective scan of state-space models, on a map that is gone through in several directions.
#pragma once

#include "common.hpp"

#ifndef KERNEL_INSTRUCTIONS
#include "threads.hpp"
#endif

namespace compressai {

// Directions: row by row, column by column, and both of them backwards.
[[maybe_unused]] constexpr std::size_t kMostDirections = 4;

// For each image, direction and channel c, with positions t in the order of the direction:
//
//   step_t = softplus(bias[c] + sum over r of weights[r][c] * params_t[r])
//   h_t[n] = exp(step_t * decay[n][c]) * h_{t-1}[n] + step_t * x_t[c] * B_t[n]
//   y_t    = skip[c] * x_t[c] + sum over n of h_t[n] * C_t[n]
//
// where params_t = [rank values | B_t | C_t] of the direction. The result is the sum of all
// directions' y at the positions that they were read from. No two channels interact, and each is
// computed by one thread: results do not depend on the number of threads.
struct SelectiveScan {
  const float* x = nullptr;
  std::size_t batch = 0, height = 0, width = 0, channels = 0;
  // [image][row][column][direction][rank + 2 states]
  const float* params = nullptr;
  std::size_t directions = 0, rank = 0, states = 0;
  // [direction][rank][channel]; null: the rank is `channels`, and `params` has the sums themselves.
  const float* weights = nullptr;
  const float* bias = nullptr;   // [direction][channel]
  const float* decay = nullptr;  // [direction][state][channel], none positive
  const float* skip = nullptr;   // [direction][channel]
  float* out = nullptr;          // of the shape of x, which it must not be
  int threads = 1;
};

// Channels of an image that a thread scans at once, at most: what is the same for all of them is read
// once. And positions for which it first works out the steps: all of it stays in the first-level
// cache.
constexpr std::size_t kScanChannels = 128, kScanPositions = 8;

struct ScanBlock {
  std::size_t image, first, channels;
  float* scratch;  // scan_scratch() floats
};

inline std::size_t scan_scratch(const SelectiveScan& call) {
  const std::size_t rank = call.weights ? call.rank : 0, aligned = 64 / sizeof(float);
  return kScanChannels * (2 * call.states + rank + 3 * kScanPositions) + aligned;
}

#ifndef KERNEL_INSTRUCTIONS

KERNEL_VERSIONS(scan_channels, const SelectiveScan& call, const ScanBlock& block)

// With the version of the kernel for this processor, or with another one.
inline void selective_scan(const SelectiveScan& call,
                           void (*run)(const SelectiveScan&, const ScanBlock&) = scan_channels()) {
  if (call.batch * call.height * call.width * call.channels == 0) return;
  // Fewer channels at once where that gives every thread some.
  const std::size_t team = static_cast<std::size_t>(std::min(call.threads, kMostThreads));
  const std::size_t parts = (team + call.batch - 1) / call.batch;
  const std::size_t share = round_up((call.channels + parts - 1) / parts, kPanel);
  const std::size_t size = std::min(share, kScanChannels);
  const std::size_t groups = (call.channels + size - 1) / size;
  for_blocks(call.batch * groups, 1, call.threads, scan_scratch(call),
             [&](float* scratch, std::size_t item, std::size_t) {
               const std::size_t first = item % groups * size;
               const std::size_t channels = std::min(size, call.channels - first);
               run(call, {item / groups, first, channels, scratch});
             });
}

#endif

}  // namespace compressai
