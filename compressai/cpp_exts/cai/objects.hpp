// SPDX-License-Identifier: BSD-3-Clause-Clear
// What is behind the handles of cai.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "container.hpp"
#include "model.hpp"
#include "tile_coder.hpp"

struct cai_file {
  explicit cai_file(compressai::cai::Bytes bytes);

  std::vector<std::uint8_t> bytes;
  compressai::cai::Container container;
  cai_info info;
};

struct cai_model {
  explicit cai_model(compressai::cai::Bytes bundle);

  compressai::cai::Model model;
  cai_model_info info;
};

struct cai_decoder {
  cai_decoder(const cai_model& model, const cai_file& file, const cai_region* region,
              std::uint64_t max_pixels);
  // False once the image is there.
  bool next();

  const compressai::cai::Model& model;
  const compressai::cai::Container& container;
  double quality;  // that of the file, or the model's where it tells none
  compressai::cai::Tiling tiling;
  compressai::cai::Box wanted;
  std::vector<std::uint64_t> needed;  // numbers of tiles
  std::size_t done = 0;
  std::unique_ptr<compressai::cai::TileDecoder> tile;
  std::vector<float> sums;  // three channels, where tiles are blended
  std::vector<std::uint8_t> pixels;
  std::uint8_t hash[8] = {};
  cai_call call = {};
  cai_status failed = CAI_OK;  // what ended it, and the message
  std::string why;

 private:
  void check() const;
  void finish_tile();
  void write_row(std::size_t y, const float* const channels[3]);
};

struct cai_encoder {
  cai_encoder(const cai_model& model, compressai::cai::Bytes pixels, std::uint32_t width,
              std::uint32_t height, std::uint32_t channels, const cai_encoding& encoding);
  // False once the file is there.
  bool next();

  const compressai::cai::Model& model;
  std::vector<std::uint8_t> pixels, alpha, icc, exif;
  std::size_t channels, done = 0;
  double tolerance;
  compressai::cai::Container container;
  std::unique_ptr<compressai::cai::TileEncoder> tile;
  std::vector<std::vector<compressai::cai::Buffer>> strings;  // of each tile
  compressai::cai::Buffer file;
  cai_call call = {};
  cai_status failed = CAI_OK;
  std::string why;

 private:
  std::vector<float> samples_of(const compressai::cai::Box& box) const;
};
