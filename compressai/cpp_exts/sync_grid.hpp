// SPDX-License-Identifier: BSD-3-Clause-Clear
// Rounding that two machines agree on although their inputs differ by a little. Part of the stream
// format. See docs/synchrony.md.
//
// Every threshold of a rounding may be shifted, by `shift / kShiftUnits` of the width of its cell.
// Elements i of equal `i mod blocks` share a shift. The encoder takes the first shift of the order
// 0, 1, -1, 2, -2 ... at which no value of the block is near a threshold, and sends its number.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace compressai {

constexpr int kShifts = 128;      // shifts to choose from: -63 ... 64
constexpr int kShiftUnits = 256;  // a shift never exceeds a quarter of a cell

// The number of a shift in the order of preference, and back.
constexpr std::int32_t shift_rank(int shift) { return shift > 0 ? 2 * shift - 1 : -2 * shift; }
constexpr int rank_shift(std::int32_t rank) {
  return rank % 2 != 0 ? (rank + 1) / 2 : -(rank / 2);
}

// The ascending scales that a stream may use. A scale is rounded up, beyond the last one down to it,
// so the threshold between two neighbours is the lower one, before it is shifted.
class ScaleLevels {
 public:
  // Throws std::invalid_argument unless there is a level and all are finite, positive and ascend.
  ScaleLevels(const float* levels, std::size_t count);

  // Between two levels. `width` is the distance to the next threshold (at most three times that to
  // the one before), within a quarter of which this one may be shifted.
  struct Threshold {
    double middle;
    double width;
    double units;  // shift units in a distance of 1
    double at(double shift) const { return middle + shift * width; }
  };

  std::size_t size() const { return thresholds_.size() + 1; }
  // How many thresholds, not shifted, are below `scale`; 0 for NaN.
  std::size_t below(float scale) const;
  const std::vector<Threshold>& thresholds() const { return thresholds_; }

  // Which threshold can be shifted to a positive scale, or to within 1/256 of it: its number, or
  // one of these; kSeveral, which is always right, for a scale that is not positive.
  enum : std::uint16_t { kSeveral = 0xFFFE, kNone = 0xFFFF };
  std::size_t near(float scale) const;

 private:
  std::vector<Threshold> thresholds_;
  std::vector<std::uint16_t> near_;   // by the upper bits of a float
  std::vector<std::uint16_t> start_;  // by the upper bits of a float: the result to start from
};

// How far apart the two machines may be, per channel: `guard * (1 + slope * |value|)`. All of them
// are finite and at least 0.
struct Guards {
  const float* scales;  // one a channel
  const float* values;  // one a channel; not read without values
  double slope;
};

struct SyncPlan {
  std::vector<std::int32_t> ranks;           // one a block
  std::vector<std::int32_t> scale_exceptions;  // elements that no shift of their block suits
  std::vector<std::int32_t> value_exceptions;
};

// Chooses shifts for `channels` x `positions` scales, and as many values that are rounded to
// multiples of `step`; `values` may be null. There are at most `max_blocks` blocks. Throws
// std::invalid_argument for a scale or value that is not finite, a value beyond 2^30 steps, a guard
// or slope that is negative or not finite, a step that is not positive or not finite, no blocks,
// or 2^31 elements.
SyncPlan plan_sync(const float* scales, const float* values, std::size_t channels,
                   std::size_t positions, const ScaleLevels& levels, double step,
                   const Guards& guards, std::size_t max_blocks);

// Number of the level for each scale. Any float will do. `blocks` is a power of two.
void round_scales(const float* scales, std::size_t count, const ScaleLevels& levels,
                  const std::int32_t* ranks, std::size_t blocks, std::int32_t* out);

// The multiple of `step` for each value, as a number of steps. Throws std::invalid_argument for a
// value that is not finite, or beyond 2^30 steps, or a step that is not positive or not finite.
void round_values(const float* values, std::size_t count, double step, const std::int32_t* ranks,
                  std::size_t blocks, std::int32_t* out);

}  // namespace compressai
