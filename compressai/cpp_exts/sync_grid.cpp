// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "sync_grid.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

namespace compressai {
namespace {

constexpr int kMaxShift = kShifts / 2;
constexpr int kMinShift = kMaxShift - kShifts + 1;
constexpr double kMaxCell = 1 << 30;
constexpr std::size_t kMostElements = 0x7FFFFFFF;  // their numbers are int32

// At most so many values of a block exclude a given shift, on average. One shift in e^3.1 is free
// then, and the choice costs 1.9 bits for each of the values. With fewer values it costs more (2.3
// bits with half of them), with more there would soon be no free one.
constexpr double kMaxLoad = 3.1;

// Upper bits of a float that the search for its level starts from: 5 of the mantissa.
constexpr int kKeyShift = 18;

// Upper bits that tell which threshold is near: 9 of the mantissa, a third of a shift or so.
constexpr int kNearShift = 14;
// What is near is told for guards of up to this part of a scale.
constexpr double kNearGuard = 1.0 / 256;

std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

[[noreturn]] void refuse(const char* what, std::size_t i, double value) {
  throw std::invalid_argument(std::string(what) + "[" + std::to_string(i) + "] must be finite and " +
                              "within 2^30 steps, got " + std::to_string(value) +
                              ": the network has diverged or its input is damaged");
}

void check_step(double step) {
  if (std::isfinite(step) && step > 0) return;
  throw std::invalid_argument("step must be finite and positive, got " + std::to_string(step));
}

bool is_guard(double value) { return std::isfinite(value) && value >= 0; }

// A copy, so that what is checked is what is used, whatever becomes of the caller's array.
std::vector<float> checked_guards(const float* guards, std::size_t count, const char* name) {
  std::vector<float> copy(guards, guards + count);
  for (std::size_t i = 0; i < count; ++i) {
    if (is_guard(copy[i])) continue;
    throw std::invalid_argument(std::string(name) + "[" + std::to_string(i) +
                                "] must be finite and at least 0, got " + std::to_string(copy[i]));
  }
  return copy;
}

// std::floor is a call into a library on processors before SSE 4.1, which builds must run on.
std::int64_t floor_to_int(double value) {
  const auto truncated = static_cast<std::int64_t>(value);
  return truncated - (value < static_cast<double>(truncated) ? 1 : 0);
}

// Calls visit(rank) for the shifts from `low` to `high` that there are; true if that is all of
// them. NaN is as far away as a bound can be.
template <typename Visit>
bool for_each_shift(double low, double high, const Visit& visit) {
  // In this order of their arguments max and min give the constant for NaN.
  low = std::min(double{kMaxShift + 1}, std::max(double{kMinShift}, low));
  high = std::max(double{kMinShift - 1}, std::min(double{kMaxShift}, high));
  const std::int64_t first = -floor_to_int(-low);
  const std::int64_t last = floor_to_int(high);
  for (std::int64_t shift = first; shift <= last; ++shift) {
    visit(static_cast<std::uint32_t>(shift_rank(static_cast<int>(shift))));
  }
  return last - first + 1 >= kShifts;
}

// Visits the ranks of the shifts that leave a scale in doubt.
template <typename Visit>
void exclude_scale(float scale, double guard, const ScaleLevels& levels, const Visit& visit) {
  const double low = scale - guard, high = scale + guard;
  const std::vector<ScaleLevels::Threshold>& thresholds = levels.thresholds();
  if (guard <= kNearGuard * scale) {
    const std::size_t near = levels.near(scale);
    if (near == ScaleLevels::kNone) return;
    if (near != ScaleLevels::kSeveral) {
      const ScaleLevels::Threshold& only = thresholds[near];
      for_each_shift((low - only.middle) * only.units, (high - only.middle) * only.units, visit);
      return;
    }
  }
  // A threshold beyond the neighbours of these cannot be shifted to here.
  const std::size_t below = levels.below(static_cast<float>(low));
  for (std::size_t i = below - (below > 0 ? 1 : 0); i < thresholds.size(); ++i) {
    const double last = (high - thresholds[i].middle) * thresholds[i].units;
    if (last < kMinShift) break;
    const double first = (low - thresholds[i].middle) * thresholds[i].units;
    if (first <= kMaxShift && for_each_shift(first, last, visit)) break;
  }
}

// Likewise for a value, both arguments in shifts. Its thresholds are half a cell from the multiples.
template <typename Visit>
void exclude_value(double value, double guard, const Visit& visit) {
  // Else a caller's array might become NaN or huge after it was checked.
  if (!(guard < kShiftUnits / 2) || !(std::abs(value) < kMaxCell * kShiftUnits)) {
    for_each_shift(kMinShift, kMaxShift, visit);
    return;
  }
  const double high = value + kShiftUnits / 2 + guard, low = high - 2 * guard;
  for (std::int64_t at = floor_to_int(high); static_cast<double>(at) >= low; --at) {
    const auto cell = static_cast<int>(at & (kShiftUnits - 1));
    const int shift = cell > kMaxShift ? cell - kShiftUnits : cell;
    if (shift >= kMinShift) visit(static_cast<std::uint32_t>(shift_rank(shift)));
  }
}

// Marks the values of a row that `exclude_value` may have something to say about, all of these and
// few others, in single precision and without branches: most have nothing in doubt.
constexpr std::size_t kMarks = 256;

void mark_values(const float* values, std::size_t count, float guard, float slope, float units,
                 std::uint8_t* marks) {
  constexpr float magic = 12582912.0f;  // 1.5 * 2^23: the last bits of a sum are an integer
  constexpr float limit = 1 << 21, error = 1.0f / (1 << 21);
  for (std::size_t i = 0; i < count; ++i) {
    const float at = values[i] * units + kShiftUnits / 2;
    const float sum = at + magic;
    const float reach = guard * (1 + slope * std::abs(values[i])) * units + std::abs(at) * error +
                        error;
    const bool is_shift = ((bits_of(sum) - kMinShift) & kShifts) == 0;
    const bool in_doubt = std::abs(at - (sum - magic)) <= reach;
    const bool beyond = !(std::abs(at) < limit) | !(reach < 0.5f);
    marks[i] = static_cast<std::uint8_t>((is_shift & in_doubt) | beyond);
  }
}

// The elements of a plan and what each excludes.
class Elements {
 public:
  Elements(const float* scales, const float* values, std::size_t channels, std::size_t positions,
           const ScaleLevels& levels, double step, const Guards& guards)
      : scales_(scales), values_(values), channels_(channels), positions_(positions),
        levels_(levels), guards_(guards), units_(kShiftUnits / step) {
    if (levels.size() > 1) lowest_ = levels.thresholds()[0].at(kMinShift / double{kShiftUnits});
  }

  // Calls visit(element, rank, is_scale) for all that is excluded by each `stride`-th position;
  // the scales of a channel first, then its values.
  template <typename Visit>
  void for_each(std::size_t stride, const Visit& visit) const {
    for (std::size_t channel = 0; channel < channels_; ++channel) {
      const std::size_t first = channel * positions_;
      for (std::size_t i = first; i < first + positions_; i += stride) {
        const float scale = scales_[i];
        const double guard = guards_.scales[channel] * (1 + guards_.slope * std::abs(scale));
        if (scale + guard >= lowest_) {
          exclude_scale(scale, guard, levels_,
                        [&](std::uint32_t rank) { visit(i, rank, true); });
        }
      }
      if (values_ == nullptr) continue;
      const auto value = [&](std::size_t i) {
        const double given = values_[i];
        const double guard = guards_.values[channel] * (1 + guards_.slope * std::abs(given));
        exclude_value(given * units_, guard * units_,
                      [&](std::uint32_t rank) { visit(i, rank, false); });
      };
      if (stride > 1) {
        for (std::size_t i = first; i < first + positions_; i += stride) value(i);
        continue;
      }
      std::uint8_t marks[kMarks];
      for (std::size_t start = 0; start < positions_; start += kMarks) {
        const std::size_t count = std::min(kMarks, positions_ - start);
        mark_values(values_ + first + start, count, guards_.values[channel],
                    static_cast<float>(guards_.slope), static_cast<float>(units_), marks);
        for (std::size_t i = 0; i < count; ++i) {
          if (marks[i] != 0) value(first + start + i);
        }
      }
    }
  }

  void check(double step) const {
    for (std::size_t i = 0; i < channels_ * positions_; ++i) {
      if (!std::isfinite(scales_[i])) refuse("scales", i, scales_[i]);
      if (values_ != nullptr && !(std::abs(values_[i]) < kMaxCell * step)) {
        refuse("values", i, values_[i]);
      }
    }
  }

  // About how many elements exclude a given shift, from a part of them.
  double load() const {
    const std::size_t stride = std::max<std::size_t>(1, std::min<std::size_t>(16, positions_ / 16));
    std::size_t count = 0;
    for_each(stride, [&](std::size_t, std::uint32_t, bool) { ++count; });
    return static_cast<double>(count * stride) / kShifts;
  }

 private:
  const float* scales_;
  const float* values_;
  std::size_t channels_;
  std::size_t positions_;
  const ScaleLevels& levels_;
  const Guards& guards_;
  double units_;
  double lowest_ = INFINITY;
};

}  // namespace

ScaleLevels::ScaleLevels(const float* levels, std::size_t count) {
  if (count == 0) throw std::invalid_argument("levels must not be empty");
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isfinite(levels[i]) || levels[i] <= (i == 0 ? 0.0f : levels[i - 1])) {
      throw std::invalid_argument("levels must be finite, positive and ascend, got " +
                                  std::to_string(levels[i]) + " at position " + std::to_string(i));
    }
    if (i + 1 < count) {
      double width = double{levels[i + 1]} - double{levels[i]};
      // Else a quarter of it might reach below the threshold before. (Tables whose scales grow by
      // less than 4 are far from that.)
      if (i > 0) width = std::min(width, 3 * (double{levels[i]} - double{levels[i - 1]}));
      thresholds_.push_back({levels[i], width, kShiftUnits / width});
    }
  }
  // Positive floats sort like their bits, so what is below the least float of a key is a start for
  // all that share it.
  start_.resize(std::size_t{1} << (31 - kKeyShift));
  std::size_t below = 0;
  for (std::size_t key = 0; key < start_.size(); ++key) {
    const std::uint32_t bits = static_cast<std::uint32_t>(key) << kKeyShift;
    float least;
    std::memcpy(&least, &bits, sizeof least);
    while (below < thresholds_.size() && thresholds_[below].middle < least) ++below;
    start_[key] = static_cast<std::uint16_t>(below);
  }
  near_.assign(std::size_t{1} << (31 - kNearShift), std::uint16_t{kNone});
  for (std::size_t i = 0; i < thresholds_.size(); ++i) {
    const double low = thresholds_[i].at(double{kMinShift} / kShiftUnits) / (1 + kNearGuard);
    const double high = thresholds_[i].at(double{kMaxShift} / kShiftUnits) / (1 - kNearGuard);
    const float least = std::nextafter(static_cast<float>(std::max(low, 0.0)), 0.0f);
    const float most = std::min(std::nextafter(static_cast<float>(high), INFINITY),
                                std::numeric_limits<float>::max());
    for (std::size_t key = bits_of(least) >> kNearShift; key <= bits_of(most) >> kNearShift; ++key) {
      near_[key] = static_cast<std::uint16_t>(near_[key] == kNone && i < kSeveral ? i : kSeveral);
    }
  }
}

std::size_t ScaleLevels::near(float scale) const {
  if (!(scale > 0)) return kSeveral;  // the sign would be part of the key
  return near_[bits_of(scale) >> kNearShift];
}

std::size_t ScaleLevels::below(float scale) const {
  if (!(scale > 0)) return 0;
  std::size_t below = start_[bits_of(scale) >> kKeyShift];
  while (below < thresholds_.size() && thresholds_[below].middle < scale) ++below;
  return below;
}

SyncPlan plan_sync(const float* scales, const float* values, std::size_t channels,
                   std::size_t positions, const ScaleLevels& levels, double step,
                   const Guards& given, std::size_t max_blocks) {
  check_step(step);
  if (!is_guard(given.slope)) {
    throw std::invalid_argument("slope must be finite and at least 0, got " +
                                std::to_string(given.slope));
  }
  if (max_blocks == 0) throw std::invalid_argument("max_blocks must be at least 1, got 0");
  if (positions != 0 && channels > kMostElements / positions) {
    throw std::invalid_argument("scales must have less than 2^31 elements, got " +
                                std::to_string(channels) + " x " + std::to_string(positions));
  }
  const std::vector<float> scale_guards = checked_guards(given.scales, channels, "scale_guards");
  std::vector<float> value_guards;
  if (values != nullptr) value_guards = checked_guards(given.values, channels, "value_guards");
  const Guards guards{scale_guards.data(), value_guards.data(), given.slope};
  const Elements elements(scales, values, channels, positions, levels, step, guards);
  elements.check(step);
  std::size_t blocks = 1;
  if (max_blocks > 1) {
    const double load = elements.load() / kMaxLoad;
    while (2 * blocks <= max_blocks && load > static_cast<double>(blocks)) blocks *= 2;
  }
  std::vector<std::uint32_t> counts(blocks * kShifts);
  elements.for_each(1, [&](std::size_t element, std::uint32_t rank, bool) {
    ++counts[(element & (blocks - 1)) * kShifts + rank];
  });
  SyncPlan plan;
  bool in_doubt = false;
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::uint32_t* first = counts.data() + block * kShifts;
    const std::uint32_t* best = std::min_element(first, first + kShifts);
    plan.ranks.push_back(static_cast<std::int32_t>(best - first));
    in_doubt = in_doubt || *best != 0;
  }
  if (in_doubt) {
    elements.for_each(1, [&](std::size_t element, std::uint32_t rank, bool is_scale) {
      if (plan.ranks[element & (blocks - 1)] != static_cast<std::int32_t>(rank)) return;
      auto& exceptions = is_scale ? plan.scale_exceptions : plan.value_exceptions;
      const auto number = static_cast<std::int32_t>(element);
      if (exceptions.empty() || exceptions.back() != number) exceptions.push_back(number);
    });
  }
  return plan;
}

void round_scales(const float* scales, std::size_t count, const ScaleLevels& levels,
                  const std::int32_t* ranks, std::size_t blocks, std::int32_t* out) {
  const std::vector<ScaleLevels::Threshold>& thresholds = levels.thresholds();
  for (std::size_t i = 0; i < count; ++i) {
    const double scale = scales[i];
    std::size_t level = levels.below(scales[i]);
    const double shift = rank_shift(ranks[i & (blocks - 1)]) / double{kShiftUnits};
    if (shift < 0 && level < thresholds.size() && scale > thresholds[level].at(shift)) {
      ++level;
    } else if (shift > 0 && level > 0 && scale <= thresholds[level - 1].at(shift)) {
      --level;
    }
    out[i] = static_cast<std::int32_t>(level);
  }
}

void round_values(const float* values, std::size_t count, double step, const std::int32_t* ranks,
                  std::size_t blocks, std::int32_t* out) {
  check_step(step);
  for (std::size_t i = 0; i < count; ++i) {
    const double value = values[i] / step;
    if (!(std::abs(value) < kMaxCell)) refuse("values", i, values[i]);
    const double shift = rank_shift(ranks[i & (blocks - 1)]) / double{kShiftUnits};
    out[i] = static_cast<std::int32_t>(floor_to_int(value + 0.5 - shift));
  }
}

}  // namespace compressai
