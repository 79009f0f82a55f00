// SPDX-License-Identifier: BSD-3-Clause-Clear
// The selective scan of state-space models in float32 for x86 processors, on a feature map
// (N, H, W, C) that is gone through in several directions.
#pragma once

#include <cstddef>

namespace compressai {

// Directions: row by row, column by column, and both of them backwards.
constexpr std::size_t kMostDirections = 4;

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

void selective_scan(const SelectiveScan& call);

}  // namespace compressai
