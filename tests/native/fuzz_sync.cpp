// SPDX-License-Identifier: BSD-3-Clause-Clear
// Fuzzes rounding to shared grids, and the pass from latents to symbols.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "fuzz_input.hpp"
#include "latent_symbols.hpp"
#include "sync_grid.hpp"

namespace {

using compressai::ScaleLevels;
using Floats = std::vector<float>;
using Ints = std::vector<std::int32_t>;

float any_bits(Input& input) {
  const std::uint32_t bits = input.word();
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Mostly numbers as networks give them; any bits now and then, if `wild`.
float any_float(Input& input, bool wild) {
  if (wild && input.one_in(64)) return any_bits(input);
  const float fraction = static_cast<float>(static_cast<int>(input.below(1u << 20)) - (1 << 19));
  return std::ldexp(fraction, static_cast<int>(input.byte() % 16) - 22);
}

Floats any_floats(Input& input, std::size_t count, bool wild) {
  Floats values(count);
  for (float& value : values) value = any_float(input, wild);
  return values;
}

Floats any_levels(Input& input) {
  Floats levels(input.one_in(16) ? input.below(3000) : input.byte() % 70);
  float last = 0;
  for (float& level : levels) {
    last += std::abs(any_float(input, false)) / 64 + (input.one_in(32) ? 0.0f : 1e-3f);
    level = last;
  }
  if (input.one_in(16) && !levels.empty()) levels[input.byte() % levels.size()] = any_float(input, true);
  return levels;
}

std::int32_t slow_row(const Floats& levels, float scale) {
  std::size_t row = 0;
  while (row + 1 < levels.size() && levels[row] < scale) ++row;
  return static_cast<std::int32_t>(row);
}

bool is_in(const Ints& exceptions, std::size_t element) {
  return std::binary_search(exceptions.begin(), exceptions.end(),
                            static_cast<std::int32_t>(element));
}

void check_exceptions(const Ints& exceptions, std::size_t count) {
  for (std::size_t i = 0; i < exceptions.size(); ++i) {
    REQUIRE(exceptions[i] >= 0 && static_cast<std::size_t>(exceptions[i]) < count);
    REQUIRE(i == 0 || exceptions[i - 1] < exceptions[i]);
  }
}

// What the other machine may have in place of each value.
Floats deviated(Input& input, const Floats& values, const Floats& guards, std::size_t positions,
                double slope) {
  Floats others(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    const double guard = guards[i / positions] * (1 + slope * std::abs(value));
    const auto other = static_cast<float>(value + guard * (static_cast<int>(input.byte()) - 127) / 128);
    if (std::abs(double{other} - value) <= 0.999 * guard) others[i] = other;
  }
  return others;
}

}  // namespace

void fuzz_sync(Input& input) {
  const Floats numbers = any_levels(input);
  const ScaleLevels levels(numbers.data(), numbers.size());  // refused levels end the run here
  const std::size_t channels = input.byte() % 5;
  const std::size_t positions = input.one_in(16) ? input.below(3000) : input.byte() % 64;
  const std::size_t count = channels * positions;
  const bool wild = input.one_in(4), with_values = !input.one_in(4);
  const double step = std::ldexp(1.0, static_cast<int>(input.byte() % 8) - 5);
  const std::size_t max_blocks = std::size_t{1} << input.byte() % 13;
  const Floats scales = any_floats(input, count, wild), values = any_floats(input, count, wild);
  Floats scale_guards(channels), value_guards(channels);
  for (Floats* guards : {&scale_guards, &value_guards}) {
    for (float& guard : *guards) {
      guard = std::abs(any_float(input, false)) / 1024;
      if (wild && input.one_in(8)) guard = any_bits(input);  // if refused, the run ends below
    }
  }
  const compressai::Guards guards{scale_guards.data(), value_guards.data(),
                                  static_cast<double>(input.byte() % 4) / 8};

  // Any float may come to a decoder.
  const Ints zero(1);
  Ints plain(count), rounded(count);
  compressai::round_scales(scales.data(), count, levels, zero.data(), 1, plain.data());
  for (std::size_t i = 0; i < count; ++i) REQUIRE(plain[i] == slow_row(numbers, scales[i]));

  const compressai::SyncPlan plan =
      compressai::plan_sync(scales.data(), with_values ? values.data() : nullptr, channels,
                            positions, levels, step, guards, max_blocks);
  const std::size_t blocks = plan.ranks.size();
  REQUIRE(blocks >= 1 && blocks <= max_blocks && (blocks & (blocks - 1)) == 0);
  for (const std::int32_t rank : plan.ranks) REQUIRE(rank >= 0 && rank < compressai::kShifts);
  check_exceptions(plan.scale_exceptions, count);
  check_exceptions(plan.value_exceptions, count);
  REQUIRE(with_values || plan.value_exceptions.empty());

  Ints here(count), there(count);
  const Floats other_scales = deviated(input, scales, scale_guards, positions, guards.slope);
  compressai::round_scales(scales.data(), count, levels, plan.ranks.data(), blocks, here.data());
  compressai::round_scales(other_scales.data(), count, levels, plan.ranks.data(), blocks,
                           there.data());
  for (std::size_t i = 0; i < count; ++i) {
    REQUIRE(here[i] == there[i] || is_in(plan.scale_exceptions, i));
    REQUIRE(std::abs(here[i] - plain[i]) <= 1);
  }
  if (!with_values) return;
  const Floats other_values = deviated(input, values, value_guards, positions, guards.slope);
  compressai::round_values(values.data(), count, step, plan.ranks.data(), blocks, here.data());
  compressai::round_values(other_values.data(), count, step, plan.ranks.data(), blocks,
                           there.data());
  for (std::size_t i = 0; i < count; ++i) {
    REQUIRE(here[i] == there[i] || is_in(plan.value_exceptions, i));
    REQUIRE(std::abs(here[i] * step - values[i]) <= 0.75 * step);
  }
}

void fuzz_symbols(Input& input) {
  const Floats numbers = any_levels(input);
  const ScaleLevels levels(numbers.data(), numbers.size());
  const std::size_t count = input.one_in(16) ? input.below(3000) : input.byte();
  const std::size_t first = input.byte() % levels.size();
  const bool wild = input.one_in(4), with_means = !input.one_in(4);
  const Floats scales = any_floats(input, count, wild), values = any_floats(input, count, wild);
  const Floats means = any_floats(input, count, wild);
  Ints symbols(count), rows(count), only_rows(count);
  compressai::scale_rows(scales.data(), count, levels, first, only_rows.data());
  for (std::size_t i = 0; i < count; ++i) {
    const auto low = static_cast<std::int32_t>(first);
    const auto last = static_cast<std::int32_t>(numbers.size() - 1);
    REQUIRE(only_rows[i] ==
            (std::isnan(scales[i]) ? last : std::max(slow_row(numbers, scales[i]), low)));
  }
  compressai::symbols_and_rows(values.data(), with_means ? means.data() : nullptr, scales.data(),
                               count, levels, first, symbols.data(), rows.data());
  REQUIRE(rows == only_rows);
  for (std::size_t i = 0; i < count; ++i) {
    const float residual = with_means ? values[i] - means[i] : values[i];
    REQUIRE(static_cast<float>(symbols[i]) == std::nearbyint(residual));
  }
}
