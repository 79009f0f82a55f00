// SPDX-License-Identifier: BSD-3-Clause-Clear
// A bundle: all of a model but the engine for its networks. The format is in docs/bundle.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "../cdf_tables.hpp"
#include "../sync_grid.hpp"
#include "fields.hpp"
#include "json.hpp"
#include "rates.hpp"

namespace compressai::cai {

// An array that comes up while an image is coded.
struct Value {
  std::string name;
  std::size_t channels, stride;  // pixels a position, along a side
};

struct Network {
  std::string name;
  Bytes graph;
  std::vector<std::size_t> inputs, outputs;  // values
};

// Of a Gaussian, a row a scale; else a row a channel.
struct Table {
  CdfTables cdfs;
  std::unique_ptr<ScaleLevels> scales, levels;  // all, and those of synchronised coding
  std::vector<std::int32_t> level_rows;
  std::size_t first = 0;  // the lowest row in use
};

struct Step {
  enum class Op { kRun, kFactorized, kGaussian, kConcatenate, kScale } op;
  std::size_t network = 0;  // that runs, or corrects
  bool corrects = false, has_means = false;
  float dead_zone = 0;
  std::size_t latent = 0, begin = 0, end = 0;  // channels begin ... end of it
  std::size_t string = 0, table = 0;
  std::size_t scales = 0, means = 0;  // values
  std::vector<float> medians;         // one a channel
  std::vector<float> scale_gains, value_gains;  // likewise, for each node; empty if there are none
  std::size_t factor = 0;  // that scales
  float limit = std::numeric_limits<float>::infinity();  // of values before that
  std::vector<std::size_t> inputs;
  std::size_t output = 0, fine = 0;
};

struct Model {
  // Throws Failure (CAI_BAD_BUNDLE) or std::invalid_argument for anything else than a bundle.
  explicit Model(Bytes bundle);
  Model(const Model&) = delete;

  std::size_t value(const std::string& name) const;

  std::string name;
  double quality = -1;  // below 0: none; of variable rate, where nothing is chosen
  std::unique_ptr<Rates> rates;  // null: one rate
  int metric = 255;
  bool random_weights = false, exact = false;
  std::uint8_t fingerprint[8] = {};
  std::size_t multiple = 0, strings = 0;
  double bytes_a_pixel = 512;  // about what coding takes
  double grid = 0, slope = 0, tolerance = 0;  // of synchrony
  std::vector<Value> values;
  std::vector<Network> networks;
  std::vector<Table> tables;
  std::vector<Step> analysis, coding, synthesis;
  std::size_t image = 0, latent = 0, result = 0;  // values x, y_hat and x_hat

 private:
  void read_networks(const Json& manifest, const std::map<std::string, Bytes>& entries);
  void read_tables(const Json& manifest);
  Step read_step(const Json& told);
  void check(const std::vector<const Step*>& steps, std::vector<std::size_t> known) const;
  void check_gaussian(const Step& step) const;
  std::size_t define(const std::string& name, std::size_t channels, std::size_t stride);
  std::vector<float> floats(const Json& name) const;
  std::vector<std::int32_t> integers(const Json& name) const;

  std::vector<std::uint8_t> bytes_;
  std::map<std::string, std::vector<float>> floats_;
  std::map<std::string, std::vector<std::int32_t>> integers_;
  std::map<std::string, std::size_t> names_, network_names_, table_names_;
};

}  // namespace compressai::cai
