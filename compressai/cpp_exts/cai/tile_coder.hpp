// SPDX-License-Identifier: BSD-3-Clause-Clear
// One tile, from strings to samples or the other way, step by step of its model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cai.h"
#include "container.hpp"
#include "model.hpp"
#include "sync_notes.hpp"

namespace compressai::cai {

class TileCoder {
 public:
  // Sides in pixels, padded. `quality` counts where the model has variable rate.
  TileCoder(const Model& model, std::size_t height, std::size_t width, double quality)
      : model_(model), height_(height), width_(width), quality_(quality),
        values_(model.values.size()) {}
  virtual ~TileCoder() = default;

  // Takes the outputs of the last network, and tells the next one in `call`; false at the end.
  // Throws Failure or std::invalid_argument.
  bool next(cai_call& call);

  const std::uint8_t* hash() const { return hash_; }  // of the latent

 protected:
  // Between strings and values of a latent.
  virtual void code_factorized(const Step& step) = 0;
  // Likewise, from scales and means on, to `values`, before they are corrected.
  virtual void code_gaussian(const Step& step, std::vector<float>& values) = 0;
  // What later networks see of (corrected) values.
  virtual void settle(const Step& step, const std::vector<float>& fine,
                      std::vector<float>& settled) = 0;
  virtual void finish_latent() {}

  std::size_t positions(std::size_t value) const {
    const std::size_t stride = model_.values[value].stride;
    return (height_ / stride) * (width_ / stride);
  }
  std::size_t size(std::size_t value) const {
    return model_.values[value].channels * positions(value);
  }
  std::vector<float>& allocated(std::size_t value) {
    values_[value].resize(size(value));
    return values_[value];
  }
  // Whether values are rounded to what both sides share.
  static bool is_rounded(const Step& step) { return step.has_means || step.corrects; }

  const Model& model_;
  const std::size_t height_, width_;
  const double quality_;
  std::vector<std::vector<float>> values_;
  std::vector<const Step*> steps_;
  std::size_t hashed_at_ = 0;  // the step before which the latent is there

 private:
  void run(cai_call& call, std::size_t network);
  void concatenate(const Step& step);
  void scale(const Step& step);
  void check_parameters(const Step& step) const;

  std::size_t at_ = 0;
  bool corrected_ = false;
  std::vector<cai_array> inputs_, outputs_;
  std::uint8_t hash_[8] = {};
};

class TileDecoder : public TileCoder {
 public:
  // The tile must outlive it.
  TileDecoder(const Model& model, std::size_t height, std::size_t width, double quality,
              const Tile& tile, bool sync_safe, bool has_hash);
  // Three channels, not clamped.
  const std::vector<float>& samples() const { return values_[model_.result]; }

 private:
  void code_factorized(const Step& step) override;
  void code_gaussian(const Step& step, std::vector<float>& values) override;
  void settle(const Step& step, const std::vector<float>& fine,
              std::vector<float>& settled) override;
  void finish_latent() override;

  const Tile& tile_;
  const bool synchronised_, has_hash_;
  Rounding told_;  // of the latent that is being decoded
};

class TileEncoder : public TileCoder {
 public:
  // `samples` in [0, 1], three channels.
  TileEncoder(const Model& model, std::size_t height, std::size_t width, double quality,
              std::vector<float> samples, double tolerance);
  const std::vector<Buffer>& strings() const { return strings_; }

 private:
  void code_factorized(const Step& step) override;
  void code_gaussian(const Step& step, std::vector<float>& values) override;
  void settle(const Step& step, const std::vector<float>& fine,
              std::vector<float>& settled) override;

  // Of the channels of a latent, by what can deviate.
  std::vector<float> guards_of(const std::vector<float>& gains) const;

  const double tolerance_;
  std::vector<std::int32_t> symbols_, rows_;  // of the latent that is being coded
  std::vector<Buffer> strings_;
};

}  // namespace compressai::cai
