// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "sync_grid.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

namespace compressai {
namespace {

constexpr int kMaxShift = kShifts / 2;
constexpr int kMinShift = kMaxShift - kShifts + 1;
constexpr double kMaxCell = 1 << 30;

// A block is best if about this many of its values exclude a given shift: one shift in e^3 is free
// then, and the choice costs 1.9 bits for each of the values. With fewer it costs more, with more
// there would soon be no free one.
constexpr double kBestLoad = 3;

// Upper bits of a float that the search for its level starts from: 5 of the mantissa.
constexpr int kKeyShift = 18;

std::uint32_t key_of(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits >> kKeyShift;
}

[[noreturn]] void refuse(const char* what, std::size_t i, double value) {
  throw std::invalid_argument(std::string(what) + "[" + std::to_string(i) + "] must be finite and " +
                              "within 2^30 steps, got " + std::to_string(value) +
                              ": the network has diverged or its input is damaged");
}

// What a planned element excludes.
class Exclusions {
 public:
  // Shifts `low` ... `high`, which may reach beyond those that there are.
  void add(std::size_t element, double low, double high, bool is_scale) {
    const int first = static_cast<int>(std::ceil(std::max(low, double{kMinShift})));
    const int last = static_cast<int>(std::floor(std::min(high, double{kMaxShift})));
    if (last - first + 1 >= kShifts) {
      always_.push_back({static_cast<std::uint32_t>(element), 0, is_scale});
      return;
    }
    for (int shift = first; shift <= last; ++shift) {
      entries_.push_back({static_cast<std::uint32_t>(element),
                          static_cast<std::uint16_t>(shift_rank(shift)), is_scale});
    }
  }

  SyncPlan choose(std::size_t max_blocks) const {
    const double load = static_cast<double>(entries_.size()) / kShifts;
    std::size_t blocks = 1;
    while (2 * blocks <= max_blocks && load > kBestLoad * std::sqrt(2.0) * static_cast<double>(blocks)) {
      blocks *= 2;
    }
    std::vector<std::uint32_t> counts(blocks * kShifts);
    for (const Entry& entry : entries_) {
      ++counts[(entry.element & (blocks - 1)) * kShifts + entry.rank];
    }
    SyncPlan plan;
    for (std::size_t block = 0; block < blocks; ++block) {
      const std::uint32_t* first = counts.data() + block * kShifts;
      plan.ranks.push_back(
          static_cast<std::int32_t>(std::min_element(first, first + kShifts) - first));
    }
    for (const Entry& entry : entries_) {
      if (plan.ranks[entry.element & (blocks - 1)] == entry.rank) except(entry, plan);
    }
    for (const Entry& entry : always_) except(entry, plan);
    for (std::vector<std::int32_t>* list : {&plan.scale_exceptions, &plan.value_exceptions}) {
      std::sort(list->begin(), list->end());
      list->erase(std::unique(list->begin(), list->end()), list->end());
    }
    return plan;
  }

 private:
  struct Entry {
    std::uint32_t element;
    std::uint16_t rank;
    bool is_scale;
  };

  static void except(const Entry& entry, SyncPlan& plan) {
    (entry.is_scale ? plan.scale_exceptions : plan.value_exceptions)
        .push_back(static_cast<std::int32_t>(entry.element));
  }

  std::vector<Entry> entries_;
  std::vector<Entry> always_;
};

void exclude_scale(float scale, double guard, std::size_t element, const ScaleLevels& levels,
                   Exclusions& exclusions) {
  const double low = scale - guard, high = scale + guard;
  // A threshold beyond the neighbours of these cannot be shifted to here.
  const std::size_t below = levels.below(static_cast<float>(low));
  for (std::size_t i = below - std::min<std::size_t>(below, 1); i + 1 < levels.size(); ++i) {
    const double middle = levels.threshold(i, 0);
    const double unit = (levels.threshold(i, 1) - middle) / kShiftUnits;
    const double first = (low - middle) / unit, last = (high - middle) / unit;
    if (last < kMinShift) break;
    if (first <= kMaxShift) exclusions.add(element, first, last, true);
  }
}

void exclude_value(double value, double guard, std::size_t element, Exclusions& exclusions) {
  // Both in shifts. The thresholds that a shift moves are half a cell from the multiples.
  const double half = kShiftUnits / 2;
  if (guard >= half) return exclusions.add(element, kMinShift, kMaxShift, false);
  const double position = value - half;
  const double nearest = position - kShiftUnits * std::nearbyint(position / kShiftUnits);
  if (nearest - guard <= kMaxShift && nearest + guard >= kMinShift) {
    exclusions.add(element, nearest - guard, nearest + guard, false);
  }
  // The next cell's, for a wide guard.
  if (nearest + guard - kShiftUnits >= kMinShift) {
    exclusions.add(element, kMinShift, nearest + guard - kShiftUnits, false);
  }
  if (nearest - guard + kShiftUnits <= kMaxShift) {
    exclusions.add(element, nearest - guard + kShiftUnits, kMaxShift, false);
  }
}

}  // namespace

ScaleLevels::ScaleLevels(const float* levels, std::size_t count) {
  if (count == 0) throw std::invalid_argument("levels must not be empty");
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isfinite(levels[i]) || levels[i] <= (i == 0 ? 0.0f : levels[i - 1])) {
      throw std::invalid_argument("levels must be finite, positive and ascend, got " +
                                  std::to_string(levels[i]) + " at position " + std::to_string(i));
    }
    if (i + 1 < count) {
      thresholds_.push_back(levels[i]);
      widths_.push_back(double{levels[i + 1]} - double{levels[i]});
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
    while (below < thresholds_.size() && thresholds_[below] < least) ++below;
    start_[key] = static_cast<std::uint16_t>(below);
  }
}

std::size_t ScaleLevels::below(float scale) const {
  if (!(scale > 0)) return 0;
  std::size_t below = start_[key_of(scale)];
  while (below < thresholds_.size() && thresholds_[below] < scale) ++below;
  return below;
}

SyncPlan plan_sync(const float* scales, const float* values, std::size_t channels,
                   std::size_t positions, const ScaleLevels& levels, double step,
                   const Guards& guards, std::size_t max_blocks) {
  Exclusions exclusions;
  const double units = kShiftUnits / step;
  const double lowest = levels.size() < 2 ? INFINITY : levels.threshold(0, -0.25);
  std::size_t i = 0;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    for (const std::size_t end = i + positions; i < end; ++i) {
      const double scale = scales[i];
      if (!std::isfinite(scale)) refuse("scales", i, scale);
      const double guard = guards.scales[channel] * (1 + guards.slope * std::abs(scale));
      if (scale + guard >= lowest) exclude_scale(scales[i], guard, i, levels, exclusions);
      if (values == nullptr) continue;
      const double value = values[i];
      if (!(std::abs(value) < kMaxCell * step)) refuse("values", i, value);
      exclude_value(value * units,
                    guards.values[channel] * (1 + guards.slope * std::abs(value)) * units, i,
                    exclusions);
    }
  }
  return exclusions.choose(max_blocks);
}

void round_scales(const float* scales, std::size_t count, const ScaleLevels& levels,
                  const std::int32_t* ranks, std::size_t blocks, std::int32_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const double scale = scales[i];
    std::size_t level = levels.below(scales[i]);
    const double shift = rank_shift(ranks[i & (blocks - 1)]) / double{kShiftUnits};
    if (shift < 0 && level + 1 < levels.size() && scale > levels.threshold(level, shift)) {
      ++level;
    } else if (shift > 0 && level > 0 && scale <= levels.threshold(level - 1, shift)) {
      --level;
    }
    out[i] = static_cast<std::int32_t>(level);
  }
}

void round_values(const float* values, std::size_t count, double step, const std::int32_t* ranks,
                  std::size_t blocks, std::int32_t* out) {
  for (std::size_t i = 0; i < count; ++i) {
    const double value = values[i] / step;
    if (!(std::abs(value) < kMaxCell)) refuse("values", i, values[i]);
    const double shift = rank_shift(ranks[i & (blocks - 1)]) / double{kShiftUnits};
    out[i] = static_cast<std::int32_t>(std::floor(value + 0.5 - shift));
  }
}

}  // namespace compressai
