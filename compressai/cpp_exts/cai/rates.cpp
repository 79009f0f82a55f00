// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "rates.hpp"

#include <algorithm>
#include <cmath>

namespace compressai::cai {
namespace {

// Binary digits of a factor, if the bundle does not tell: machines differ in double precision by far
// less than the last one. A float has no more than the most.
constexpr std::int64_t kDigits = 16, kMostDigits = 24;
// Above, softplus is the identity in double precision and would overflow.
constexpr double kLinear = 20;
// Files tell no higher quality.
constexpr double kMostQuality = 255;

[[noreturn]] void bad(const std::string& what) {
  throw Failure(CAI_BAD_BUNDLE, "the bundle is damaged: rate: " + what);
}

double softplus(double value) { return value > kLinear ? value : std::log1p(std::exp(value)); }

}  // namespace

Rates::Rates(const Json& told, const std::map<std::string, std::vector<float>>& arrays)
    : low_(told["low"].number()), high_(told["high"].number()), usual_(told["default"].number()) {
  if (!(0 <= low_ && low_ < high_ && high_ <= kMostQuality && low_ <= usual_ && usual_ <= high_)) {
    bad("qualities are out of order");
  }
  const Json* whole = told.find("whole");
  if (whole != nullptr && whole->boolean()) {
    read_rows(told["factors"], arrays);
    return;
  }
  for (const auto& [name, one] : told["factors"].members()) {
    const auto middle = arrays.find(one["middle"].text()), steps = arrays.find(one["steps"].text());
    if (middle == arrays.end() || steps == arrays.end()) bad(name + " lacks an array");
    const std::size_t channels = middle->second.size(), size = steps->second.size();
    if (channels == 0 || size == 0 || size % channels != 0) bad("arrays of " + name + " do not fit");
    if (intervals_ == 0) intervals_ = size / channels;
    if (intervals_ != size / channels) bad("factors differ in their nodes");
    const Json* digits = one.find("digits");
    const std::int64_t count = digits == nullptr ? kDigits : digits->integer(1, kMostDigits);
    numbers_[name] = factors_.size();
    factors_.push_back({channels, middle->second, steps->second, one["falls"].boolean() ? -1.0 : 1.0,
                        std::ldexp(1.0, static_cast<int>(count))});
  }
  if (factors_.empty()) bad("it has no factors");
}

void Rates::read_rows(const Json& told, const std::map<std::string, std::vector<float>>& arrays) {
  whole_ = true;
  if (low_ != 1 || !has(high_) || !has(usual_)) bad("qualities are not those of levels");
  intervals_ = static_cast<std::size_t>(high_) - 1;
  for (const auto& [name, one] : told.members()) {
    const auto rows = arrays.find(one["values"].text());
    if (rows == arrays.end()) bad(name + " lacks an array");
    const std::size_t size = rows->second.size();
    if (size == 0 || size % nodes() != 0) bad("the array of " + name + " does not fit");
    numbers_[name] = factors_.size();
    factors_.push_back({size / nodes(), {}, rows->second, 0, 0});
  }
  if (factors_.empty()) bad("it has no factors");
}

bool Rates::has(double quality) const {
  return low_ <= quality && quality <= high_ && (!whole_ || quality == std::floor(quality));
}

std::size_t Rates::number_of(const std::string& factor) const {
  const auto found = numbers_.find(factor);
  if (found == numbers_.end()) bad("it has no factor " + factor);
  return found->second;
}

Rates::Place Rates::place(double quality) const {
  const auto count = static_cast<double>(intervals_);
  const double place = (quality - low_) * (count / (high_ - low_));
  const double left = std::min(std::max(std::floor(place), 0.0), count - 1);
  return {static_cast<std::size_t>(left), place - left};
}

std::vector<float> Rates::factor(std::size_t number, double quality) const {
  const Factor& told = factors_[number];
  const std::size_t channels = told.channels;
  if (whole_) {
    const float* row = told.rows.data() + (static_cast<std::size_t>(quality) - 1) * channels;
    return {row, row + channels};
  }
  const auto [left, share] = place(quality);
  std::vector<float> result(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const auto rise = [&](std::size_t node) {
      return softplus(double{told.rows[node * channels + c]});
    };
    double sum = 0, middle = 0;  // of what is before this node, and before the one in the middle
    for (std::size_t node = 0; node < std::max(left, intervals_ / 2); ++node) {
      const double one = rise(node);
      if (node < left) sum += one;
      if (node < intervals_ / 2) middle += one;
    }
    const double logarithm = (sum - middle) + share * rise(left);
    int exponent = 0;
    const double mantissa =
        std::frexp(std::exp(double{told.middle[c]} + told.sign * logarithm), &exponent);
    result[c] =
        static_cast<float>(std::ldexp(std::nearbyint(mantissa * told.unit) / told.unit, exponent));
  }
  return result;
}

std::vector<float> Rates::guards(const std::vector<float>& rows, double quality) const {
  const auto [left, share] = place(quality);
  const std::size_t channels = rows.size() / nodes();
  std::vector<float> result(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const float* row = rows.data() + left * channels + c;
    result[c] = share == 0 ? *row : std::max(row[0], row[channels]);
  }
  return result;
}

}  // namespace compressai::cai
