// SPDX-License-Identifier: BSD-3-Clause-Clear
// Bundles of variable rate: what latents are multiplied by at a quality, as in
// compressai/runtime/rates.py.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "json.hpp"

namespace compressai::cai {

// The qualities of a bundle, and factors by quality.
class Rates {
 public:
  // `told` is the field "rate" of the manifest, `arrays` has its arrays. Throws Failure
  // (CAI_BAD_BUNDLE) unless they fit.
  Rates(const Json& told, const std::map<std::string, std::vector<float>>& arrays);

  double low() const { return low_; }
  double high() const { return high_; }
  double usual() const { return usual_; }  // where nothing is chosen
  // Whether only whole qualities are there.
  bool whole() const { return whole_; }
  bool has(double quality) const;
  // Qualities at which factors were learned.
  std::size_t nodes() const { return intervals_ + 1; }

  // Throws Failure (CAI_BAD_BUNDLE) if there is no such factor.
  std::size_t number_of(const std::string& factor) const;
  std::size_t channels(std::size_t factor) const { return factors_[factor].channels; }
  // The factor of each channel, the same bits on all machines. `quality` is one that it has.
  std::vector<float> factor(std::size_t factor, double quality) const;
  // `rows` has one number a channel for each node: the larger ones of both nodes around a quality.
  std::vector<float> guards(const std::vector<float>& rows, double quality) const;

 private:
  struct Factor {
    std::size_t channels;
    std::vector<float> middle, rows;  // of what it grows by, or, of whole qualities, of its values
    double sign, unit;
  };
  void read_rows(const Json& factors, const std::map<std::string, std::vector<float>>& arrays);
  struct Place {
    std::size_t left;  // node
    double share;      // of the way to the next
  };
  Place place(double quality) const;

  double low_, high_, usual_;
  bool whole_ = false;
  std::size_t intervals_ = 0;
  std::vector<Factor> factors_;
  std::map<std::string, std::size_t> numbers_;
};

}  // namespace compressai::cai
