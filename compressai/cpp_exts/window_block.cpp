// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "window_block.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernel_blocks.hpp"

namespace compressai {

#ifdef COMPRESSAI_KERNELS
namespace {

constexpr std::size_t kTokens = 64;  // windows are taken together up to about so many positions
constexpr std::size_t kMaxTile = 32;  // queries that any kernel works on together

// What one thread works with.
struct Workspace {
  Workspace(const WindowBlock& block, std::size_t windows)
      : sources(windows * block.positions()),
        targets(windows * block.positions()),
        kinds(windows),
        memory(window_scratch(block, windows * block.positions()) + 16) {}

  float* scratch() {
    const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
    return memory.data() + (64 - address % 64) % 64 / sizeof(float);
  }

  std::vector<const float*> sources;
  std::vector<float*> targets;
  std::vector<std::size_t> kinds;
  std::vector<float> memory;
};

}  // namespace

std::size_t window_scratch(const WindowBlock& block, std::size_t tokens) {
  const std::size_t wide =
      std::max(whole_panels(3 * block.channels), whole_panels(block.fc1.outputs));
  const std::size_t positions = block.positions(), dim = block.channels / block.heads;
  const std::size_t attention = dim * bias_columns(positions) + 2 * positions * dim +
                                positions * kMaxTile + 4 * kMaxTile;
  return tokens * (3 * whole_panels(block.channels) + wide) + attention;
}

void run_window_block(const WindowBlock& block, const Map<const float>& x, const Map<float>& out,
                      int threads) {
  const auto run = has_avx512() ? window_block_avx512 : window_block_avx2;
  const std::size_t h = block.window_height, w = block.window_width, positions = h * w;
  const std::size_t down = (x.height + h - 1) / h, across = (x.width + w - 1) / w;
  const std::size_t windows = x.batch * down * across;
  const std::size_t together = std::max<std::size_t>(1, kTokens / positions);
  const std::size_t groups = (windows + together - 1) / together;
  const std::size_t parts = std::min<std::size_t>(
      static_cast<std::size_t>(std::clamp(threads, 1, kMostThreads)), std::max<std::size_t>(groups, 1));

  std::vector<Workspace> workspaces;
  workspaces.reserve(parts);
  for (std::size_t i = 0; i < parts; ++i) workspaces.emplace_back(block, together);

  const auto place = [&](std::size_t index, std::size_t at, Workspace& space) {
    const std::size_t image = index / (down * across);
    const std::size_t i = index / across % down, j = index % across;
    for (std::size_t t = 0; t < positions; ++t) {
      const std::size_t row = (i * h + t / w + block.shift) % (down * h);
      const std::size_t column = (j * w + t % w + block.shift) % (across * w);
      const bool inside = row < x.height && column < x.width;
      space.sources[at * positions + t] =
          !inside ? nullptr
                  : x.data + image * x.image_stride + row * x.row_stride + column * x.token_stride;
      space.targets[at * positions + t] =
          !inside ? nullptr
                  : out.data + image * out.image_stride + row * out.row_stride +
                        column * out.token_stride;
    }
    const std::size_t bottom = i + 1 == down, right = j + 1 == across;
    space.kinds[at] = block.shift == 0 ? 0 : 2 * bottom + right;
  };
  const auto work = [&](std::size_t part) {
    Workspace& space = workspaces[part];
    for (std::size_t g = groups * part / parts; g < groups * (part + 1) / parts; ++g) {
      const std::size_t first = g * together, count = std::min(together, windows - first);
      for (std::size_t at = 0; at < count; ++at) place(first + at, at, space);
      run(block, {count * positions, space.sources.data(), space.targets.data(),
                     space.kinds.data(), space.scratch()});
    }
  };
  const int last = static_cast<int>(parts);
#ifdef _OPENMP
#pragma omp parallel for num_threads(last) schedule(static, 1)
#endif
  for (int part = 0; part < last; ++part) work(static_cast<std::size_t>(part));
}

#else

void run_window_block(const WindowBlock&, const Map<const float>&, const Map<float>&, int) {}

#endif

}  // namespace compressai
