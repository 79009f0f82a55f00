// SPDX-License-Identifier: BSD-3-Clause-Clear
// What the kernels and their versions for several processors have in common: what one thread
// computes at once, and its memory.
#pragma once

#include "kernels.hpp"
#include "selective_scan.hpp"
#include "window_block.hpp"

namespace compressai {

// Outputs at once: products stay in the second-level cache.
constexpr std::size_t kMostOutputs = 128;

// Tiles of results.
struct WinogradBlock {
  std::size_t first, tiles;
  float* values;  // [position][tile][input], positions values_stride apart
  std::size_t values_stride;
  float* products;  // [position][tile][products_width], positions products_stride apart
  std::size_t products_stride;
  std::size_t products_width;  // outputs at once
  const float* zeros;          // as many as inputs
};

struct PointwiseBlock {
  std::size_t first, pixels;
  float* values;    // [pixel][input]
  float* products;  // [pixel][products_width]
  std::size_t products_width;
};

struct DepthwiseBlock {
  std::size_t first, rows;  // of all pictures
  const float* zeros;       // as many as channels
};

// Channels of an image that a thread scans at once, and positions for which it first works out the
// steps: all of it stays in the first-level cache.
constexpr std::size_t kScanChannels = 16, kScanPositions = 32;

struct ScanBlock {
  std::size_t image, first;  // first channel
  float* scratch;            // scan_scratch() floats
};

inline std::size_t scan_scratch(const SelectiveScan& call) {
  const std::size_t rank = call.weights ? call.rank : 0, aligned = 64 / sizeof(float);
  return kScanChannels * (2 * call.states + rank + 3 * kScanPositions) + aligned;
}

// The versions, with the names of their instructions behind.
#define COMPRESSAI_VERSIONS(instructions)                                               \
  void winograd_##instructions(const WinogradConv& call, const WinogradBlock& block);   \
  void pointwise_##instructions(const Conv1x1& call, const PointwiseBlock& block);      \
  void depthwise_##instructions(const DepthwiseConv& call, const DepthwiseBlock& block); \
  void window_block_##instructions(const WindowBlock& block, const WindowGroup& group); \
  void scan_channels_##instructions(const SelectiveScan& call, const ScanBlock& block);
COMPRESSAI_VERSIONS(avx2)
COMPRESSAI_VERSIONS(avx512)

}  // namespace compressai
