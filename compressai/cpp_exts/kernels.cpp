// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "kernels.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "kernel_blocks.hpp"

namespace compressai {

namespace {

bool limited_to(std::string_view capability) {
  const char* limit = std::getenv("ATEN_CPU_CAPABILITY");
  return limit != nullptr && capability == limit;
}

}  // namespace

bool kernels_available() {
#ifdef COMPRESSAI_KERNELS
  static const bool limited = limited_to("default");
  return !limited && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx512() {
#ifdef COMPRESSAI_KERNELS
  static const bool limited = limited_to("avx2");
  return !limited && __builtin_cpu_supports("avx512f");
#else
  return false;
#endif
}

#ifdef COMPRESSAI_KERNELS
namespace {

// For 36 positions; more for less, since the weights are read once for each block.
constexpr std::size_t kMostTiles = 48, kLeastTiles = 24, kPositions = 36;
// Transformed values of a block: as many as the second-level cache holds.
constexpr std::size_t kValues = 512 * 1024 / sizeof(float);
constexpr std::size_t kPixels = 96;
constexpr std::size_t kRowsOfMaps = 4;
// Between positions, so that the same place in all of them falls on different cache lines.
constexpr std::size_t kGap = 16;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

#ifdef _OPENMP
std::size_t thread_number() { return static_cast<std::size_t>(omp_get_thread_num()); }
#else
std::size_t thread_number() { return 0; }
#endif

// Calls work(scratch, first, count) for all blocks of up to `size` items. The caller's thread keeps
// the scratch memory of all threads for the next layer, and it holds what that left there. It is
// allocated here, because an error could not leave the parallel region.
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
#pragma omp parallel for num_threads(team) schedule(dynamic)
  for (std::ptrdiff_t i = 0; i < blocks; ++i) {
    const std::size_t first = static_cast<std::size_t>(i) * size;
    work(scratch + thread_number() * memory, first, std::min(size, items - first));
  }
}

// Enough items for every thread, in whole groups of rows. There are some items.
std::size_t block_size(std::size_t items, std::size_t most, int threads) {
  const std::size_t team = static_cast<std::size_t>(threads);
  return std::min(most, round_up((items + team - 1) / team, kRowGroup));
}

}  // namespace

void winograd_conv(const WinogradConv& call) {
  const auto run = has_avx512() ? winograd_avx512 : winograd_avx2;
  const std::size_t tile = call.tile, positions = call.positions();
  const std::size_t count =
      call.batch * ((call.height + tile - 1) / tile) * ((call.width + tile - 1) / tile);
  if (count == 0) return;
  const std::size_t fitting = kValues / positions / call.in_channels;
  const std::size_t tiles_at_once = std::clamp(fitting, kLeastTiles * kPositions / positions,
                                               kMostTiles * kPositions / positions);
  const std::size_t most = tiles_at_once / kRowGroup * kRowGroup;
  const std::size_t tiles = block_size(count, most, call.threads);
  WinogradBlock block{};
  block.products_width = std::min(kMostOutputs, call.out_channels);
  block.values_stride = tiles * call.in_channels + kGap;
  block.products_stride = tiles * block.products_width + kGap;
  const std::size_t memory = positions * (block.values_stride + block.products_stride);
  const std::vector<float> zeros(call.in_channels);
  block.zeros = zeros.data();
  for_blocks(count, tiles, call.threads, memory,
             [&](float* scratch, std::size_t first, std::size_t size) {
               WinogradBlock mine = block;
               mine.first = first;
               mine.tiles = size;
               mine.values = scratch;
               mine.products = mine.values + positions * mine.values_stride;
               run(call, mine);
             });
}

void conv1x1(const Conv1x1& call) {
  const auto run = has_avx512() ? pointwise_avx512 : pointwise_avx2;
  const std::size_t count = call.batch * call.height * call.width;
  if (count == 0) return;
  const std::size_t pixels = block_size(count, kPixels, call.threads);
  const std::size_t width = std::min(kMostOutputs, call.out_channels);
  for_blocks(count, pixels, call.threads, pixels * (call.in_channels + width),
             [&](float* scratch, std::size_t first, std::size_t size) {
               PointwiseBlock block{};
               block.first = first;
               block.pixels = size;
               block.values = scratch;
               block.products = scratch + pixels * call.in_channels;
               block.products_width = width;
               run(call, block);
             });
}

void depthwise_conv(const DepthwiseConv& call) {
  const auto run = has_avx512() ? depthwise_avx512 : depthwise_avx2;
  const std::size_t rows = call.batch * call.height;
  if (rows * call.width == 0) return;
  const std::vector<float> zeros(call.channels);
  for_blocks(rows, kRowsOfMaps, call.threads, 0,
             [&](float*, std::size_t first, std::size_t count) {
               run(call, {first, count, zeros.data()});
             });
}

void selective_scan(const SelectiveScan& call) {
  const auto run = has_avx512() ? scan_channels_avx512 : scan_channels_avx2;
  const std::size_t groups = (call.channels + kScanChannels - 1) / kScanChannels;
  if (call.batch * call.height * call.width * groups == 0) return;
  for_blocks(call.batch * groups, 1, call.threads, scan_scratch(call),
             [&](float* scratch, std::size_t item, std::size_t) {
               run(call, {item / groups, item % groups * kScanChannels, scratch});
             });
}

#else

void winograd_conv(const WinogradConv&) {}
void selective_scan(const SelectiveScan&) {}
void conv1x1(const Conv1x1&) {}
void depthwise_conv(const DepthwiseConv&) {}

#endif

}  // namespace compressai
