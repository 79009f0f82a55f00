// SPDX-License-Identifier: BSD-3-Clause-Clear
// Layers of networks in float32 for x86 processors, on feature maps (N, H, W, C) without gaps.
// They add in another order than the layers of torch, so their results differ in the last digits.
//
// Each .cpp file here is all of a kernel: what it is called with, what one thread computes at once,
// and its function of compressai._kernels. CMakeLists.txt finds it and compiles it once for each set
// of instructions, with KERNEL_INSTRUCTIONS, KERNEL_LANES (floats in a vector) and KERNEL_ROWS (rows of
// a matrix product at once), and once without, for the part that Python calls.
#pragma once

#include <cstddef>

namespace compressai {

// Whether this processor has the instructions that the kernels need. ATEN_CPU_CAPABILITY limits the
// kernels as it limits torch, so that one machine can compute as others do: "default" leaves none,
// "avx2" those without AVX-512.
bool kernels_available();
bool has_avx512();

// Weights of a matrix product lie in panels of this many outputs: [panel][input][16].
constexpr std::size_t kPanel = 16;

// As many as fill whole panels.
constexpr std::size_t whole_panels(std::size_t count) {
  return (count + kPanel - 1) / kPanel * kPanel;
}

// Rows of a matrix product are computed in groups that divide this.
constexpr std::size_t kRowGroup = 12;
// Threads that a call starts at most, whatever it is asked for.
constexpr int kMostThreads = 256;

struct Activation {
  float slope = 1;  // factor of negative results: 1 none, 0 ReLU, else leaky ReLU
  bool gelu = false;
  bool of_sum = false;  // behind the residual instead of in front of it
};

// What every kernel computes: channels of a result from those of its input.
struct Layer {
  const float* x = nullptr;
  std::size_t batch = 0, height = 0, width = 0, in_channels = 0, out_channels = 0;
  const float* weights = nullptr;   // in panels
  const float* bias = nullptr;      // of each output channel, or null
  Activation activation;
  const float* residual = nullptr;  // of the output's shape, added behind the activation, or null
  // PixelShuffle by this factor; 1 is none.
  std::size_t shuffle = 1;
  // The output is (N, C, H, W), and made of the first `planes` * shuffle^2 results in the order
  // (channel, row, column); without residual. If 0, it is (N, H, W, C) and made of all results in
  // the order (row, column, channel).
  std::size_t planes = 0;
  float* out = nullptr;
  int threads = 1;
};

// Outputs at once: products stay in the second-level cache.
constexpr std::size_t kMostOutputs = 128;

}  // namespace compressai

#ifdef KERNEL_INSTRUCTIONS

#define KERNEL_JOINED(name, instructions) name##_##instructions
#define KERNEL_NAMED(name, instructions) KERNEL_JOINED(name, instructions)
// The name of a function in the version for these instructions.
#define KERNEL(name) KERNEL_NAMED(name, KERNEL_INSTRUCTIONS)
#include "vectors.inl"

#elif defined(COMPRESSAI_KERNELS)

// Declares the versions of a kernel; name() gives the one for this processor.
#define KERNEL_VERSIONS(name, ...)   \
  void name##_avx2(__VA_ARGS__);     \
  void name##_avx512(__VA_ARGS__);   \
  inline auto* name() { return has_avx512() ? name##_avx512 : name##_avx2; }

#else

// No version is ever called where kernels_available() is false.
#define KERNEL_VERSIONS(name, ...) \
  inline void (*name())(__VA_ARGS__) { return nullptr; }

#endif
