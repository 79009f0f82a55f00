// SPDX-License-Identifier: BSD-3-Clause-Clear
// Layers of networks in float32 for x86 processors, on feature maps (N, H, W, C) without gaps.
// They add in another order than the layers of torch, so their results differ in the last digits.
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

// Convolution of stride 1 with as many zeros around as keep the size, by Winograd's F(4x4, 3x3),
// F(2x2, 5x5) or F(2x2, 3x3): about a quarter, a third or four ninths of the multiplications.
// (Lavin and Gray 2016, "Fast algorithms for convolutional neural networks".) Its weights are
// transformed, positions of panels. The last of them rounds about as much as a plain sum does.
//
// in_channels and out_channels must be multiples of 16, so must be the channels of the output if it
// is not planar.
struct WinogradConv : Layer {
  std::size_t kernel = 3;  // or 5
  // Side of the results that are computed together: 4 or 2 for 3x3 kernels, 2 for 5x5.
  std::size_t tile = 4;
  // Side of the pixels that they are computed from: 6 or 4.
  std::size_t points() const { return tile + kernel - 1; }
  std::size_t positions() const { return points() * points(); }
};

// 1x1 convolution. With `gate` it is a generalised divisive normalisation (GDN) or its inverse: the
// convolution takes the squares (or magnitudes) of x, and x is scaled by the result.
//
// The same multiples; with `gate`, both are equal and there is no shuffle.
struct Conv1x1 : Layer {
  enum class Gate { kNone, kDivideByRoot, kTimesRoot, kDivide, kTimes };
  Gate gate = Gate::kNone;
};

// 3x3 convolution of each channel by itself, of stride 1 and padding 1, with an activation behind it
// and a factor for each result behind that. The channels must be a multiple of 16.
struct DepthwiseConv {
  const float* x = nullptr;
  std::size_t batch = 0, height = 0, width = 0, channels = 0;
  const float* weights = nullptr;  // [row][column][channel]
  const float* bias = nullptr;     // of each channel, or null
  Activation activation;           // `of_sum` has no meaning
  const float* gate = nullptr;     // the factors, of the output's shape, or null
  float* out = nullptr;
  int threads = 1;
};

void winograd_conv(const WinogradConv& call);
void depthwise_conv(const DepthwiseConv& call);
void conv1x1(const Conv1x1& call);

}  // namespace compressai
