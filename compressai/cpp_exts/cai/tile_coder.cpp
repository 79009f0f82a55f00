// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "tile_coder.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>

#include "../latent_symbols.hpp"

namespace compressai::cai {
namespace {

constexpr float kMostParameter = 16777216.0f;
constexpr float kMostSymbol = 2147483648.0f;

Buffer to_bytes(const EncodedStream& stream) {
  Buffer bytes(stream.bytes());
  stream.write(bytes.data());
  return bytes;
}

// The row of each element of a latent whose rows are those of its channels.
std::vector<std::int32_t> channel_rows(std::size_t channels, std::size_t positions) {
  std::vector<std::int32_t> rows(channels * positions);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int32_t>(i / positions);
  return rows;
}

void restore(const std::vector<std::int32_t>& symbols, const float* means, std::vector<float>& out) {
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    out[i] = static_cast<float>(symbols[i]) + (means == nullptr ? 0.0f : means[i]);
  }
}

void from_steps(const std::vector<std::int32_t>& steps, double step, std::vector<float>& out) {
  for (std::size_t i = 0; i < steps.size(); ++i) {
    out[i] = static_cast<float>(steps[i]) * static_cast<float>(step);
  }
}

}  // namespace

bool TileCoder::next(cai_call& call) {
  for (;; ++at_) {
    if (at_ == hashed_at_) {
      const std::vector<float>& latent = values_[model_.latent];
      hash_latent(latent.data(), latent.size(), hash_);
      finish_latent();
    }
    if (at_ == steps_.size()) return false;
    const Step& step = *steps_[at_];
    switch (step.op) {
      case Step::Op::kRun:
        run(call, step.network);
        ++at_;
        return true;
      case Step::Op::kFactorized:
        allocated(step.output);
        code_factorized(step);
        break;
      case Step::Op::kConcatenate:
        concatenate(step);
        break;
      case Step::Op::kScale:
        scale(step);
        break;
      case Step::Op::kGaussian: {
        const Network& network = model_.networks[step.network];
        if (!corrected_) {
          check_parameters(step);
          code_gaussian(step, allocated(step.corrects ? network.inputs[1] : step.fine));
          if (step.corrects) {
            corrected_ = true;
            run(call, step.network);
            return true;
          }
        } else {
          values_[step.fine] = values_[network.outputs[0]];
          corrected_ = false;
        }
        settle(step, values_[step.fine], allocated(step.output));
        break;
      }
    }
  }
}

void TileCoder::run(cai_call& call, std::size_t number) {
  const Network& network = model_.networks[number];
  const auto described = [&](std::size_t value) -> cai_array {
    const Value& told = model_.values[value];
    return {told.name.c_str(), static_cast<std::int32_t>(told.channels),
            static_cast<std::int32_t>(height_ / told.stride),
            static_cast<std::int32_t>(width_ / told.stride), values_[value].data()};
  };
  inputs_.clear();
  outputs_.clear();
  for (const std::size_t value : network.outputs) allocated(value);
  for (const std::size_t value : network.inputs) inputs_.push_back(described(value));
  for (const std::size_t value : network.outputs) outputs_.push_back(described(value));
  call = {network.name.c_str(), static_cast<std::int32_t>(number),
          static_cast<std::int32_t>(inputs_.size()), static_cast<std::int32_t>(outputs_.size()),
          inputs_.data(), outputs_.data()};
}

void TileCoder::concatenate(const Step& step) {
  auto out = allocated(step.output).begin();
  for (const std::size_t value : step.inputs) {
    out = std::copy(values_[value].begin(), values_[value].end(), out);
  }
}

void TileCoder::scale(const Step& step) {
  const std::vector<float>& in = values_[step.inputs[0]];
  std::vector<float>& out = allocated(step.output);
  const std::vector<float> factors = model_.rates->factor(step.factor, quality_);
  const std::size_t count = positions(step.output);
  for (std::size_t i = 0; i < out.size(); ++i) {
    // What is no number stays so.
    out[i] = std::min(std::max(in[i], -step.limit), step.limit) * factors[i / count];
  }
}

void TileCoder::check_parameters(const Step& step) const {
  for (const std::size_t value : {step.scales, step.means}) {
    for (const float one : values_[value]) {
      if (std::abs(one) < kMostParameter) continue;  // NaN is no less
      throw Failure(CAI_DESYNC, "a network gives " + model_.values[value].name +
                                    " that are not finite or beyond 2**24");
    }
  }
}

// -- decoding ----------------------------------------------------------------------------------

TileDecoder::TileDecoder(const Model& model, std::size_t height, std::size_t width,
                         double quality, const Tile& tile, bool sync_safe, bool has_hash)
    : TileCoder(model, height, width, quality), tile_(tile), synchronised_(sync_safe && !model.exact),
      has_hash_(has_hash) {
  for (const Step& step : model.coding) steps_.push_back(&step);
  hashed_at_ = steps_.size();
  for (const Step& step : model.synthesis) steps_.push_back(&step);
}

void TileDecoder::code_factorized(const Step& step) {
  const Bytes string = tile_.strings[step.string];
  StreamReader stream(string.data, string.size);
  const std::size_t channels = step.medians.size();
  const std::vector<std::int32_t> rows = channel_rows(channels, positions(step.output));
  std::vector<std::int32_t> symbols(rows.size());
  stream.decode(rows.data(), rows.size(), model_.tables[step.table].cdfs, symbols.data());
  stream.check_finished();
  std::vector<float>& out = values_[step.output];
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(symbols[i]) + step.medians[static_cast<std::size_t>(rows[i])];
  }
}

void TileDecoder::code_gaussian(const Step& step, std::vector<float>& values) {
  const Bytes string = tile_.strings[step.string];
  const Table& table = model_.tables[step.table];
  const std::vector<float>& scales = values_[step.scales];
  StreamReader stream(string.data, string.size);
  std::vector<std::int32_t> rows(values.size()), symbols(values.size());
  if (synchronised_) {
    told_ = read_rounding(stream, rows.size());
    round_scales(scales.data(), rows.size(), *table.levels, told_.ranks.data(),
                 told_.ranks.size(), rows.data());
    told_.scales.apply(rows);
    for (std::int32_t& row : rows) {
      if (row < 0 || static_cast<std::size_t>(row) >= table.level_rows.size()) {
        throw std::invalid_argument(
            "the string is damaged: it tells of a scale that does not exist");
      }
      row = table.level_rows[static_cast<std::size_t>(row)];
    }
  } else {
    scale_rows(scales.data(), rows.size(), *table.scales, table.first, rows.data());
  }
  stream.decode(rows.data(), rows.size(), table.cdfs, symbols.data());
  stream.check_finished();
  restore(symbols, step.has_means ? values_[step.means].data() : nullptr, values);
}

void TileDecoder::settle(const Step& step, const std::vector<float>& fine,
                         std::vector<float>& settled) {
  if (!synchronised_ || !is_rounded(step)) {
    settled = fine;
    return;
  }
  std::vector<std::int32_t> steps(fine.size());
  round_values(fine.data(), steps.size(), model_.grid, told_.ranks.data(), told_.ranks.size(),
               steps.data());
  told_.values.apply(steps);
  from_steps(steps, model_.grid, settled);
}

void TileDecoder::finish_latent() {
  if (has_hash_ && std::memcmp(hash(), tile_.hash, sizeof tile_.hash) != 0) {
    throw Failure(CAI_DESYNC, "the latent is another one than that which was coded");
  }
}

// -- encoding ----------------------------------------------------------------------------------

TileEncoder::TileEncoder(const Model& model, std::size_t height, std::size_t width,
                         double quality, std::vector<float> samples, double tolerance)
    : TileCoder(model, height, width, quality), tolerance_(tolerance), strings_(model.strings) {
  values_[model.image] = std::move(samples);
  for (const Step& step : model.analysis) steps_.push_back(&step);
  for (const Step& step : model.coding) steps_.push_back(&step);
  hashed_at_ = steps_.size();
}

void TileEncoder::code_factorized(const Step& step) {
  const std::vector<float>& latent = values_[step.latent];
  const std::vector<std::int32_t> rows = channel_rows(step.medians.size(), positions(step.latent));
  std::vector<std::int32_t> symbols(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const float median = step.medians[static_cast<std::size_t>(rows[i])];
    const float symbol = std::nearbyint(latent[i] - median);
    if (!(std::abs(symbol) < kMostSymbol)) {
      throw Failure(CAI_INVALID_ARGUMENT, "a latent is no int32 after rounding: check the image");
    }
    symbols[i] = static_cast<std::int32_t>(symbol);
    values_[step.output][i] = symbol + median;
  }
  strings_[step.string] = to_bytes(encode(symbols.data(), rows.data(), rows.size(),
                                           model_.tables[step.table].cdfs, Layout::kBySize));
}

void TileEncoder::code_gaussian(const Step& step, std::vector<float>& values) {
  const Table& table = model_.tables[step.table];
  const float* latent = values_[step.latent].data() + step.begin * positions(step.latent);
  const float* means = step.has_means ? values_[step.means].data() : nullptr;
  symbols_.resize(values.size());
  rows_.resize(values.size());
  symbols_and_rows(latent, means, values_[step.scales].data(), values.size(), *table.scales,
                   table.first, symbols_.data(), rows_.data());
  if (step.dead_zone > 0) {
    dead_zone_symbols(latent, means, values_[step.scales].data(), values.size(), step.dead_zone,
                      symbols_.data());
  }
  restore(symbols_, means, values);
}

std::vector<float> TileEncoder::guards_of(const std::vector<float>& gains) const {
  std::vector<float> guards =
      model_.rates == nullptr ? gains : model_.rates->guards(gains, quality_);
  for (float& guard : guards) guard = static_cast<float>(double{guard} * tolerance_);
  return guards;
}

// The string is written here, for it tells of corrected values, too.
void TileEncoder::settle(const Step& step, const std::vector<float>& fine,
                         std::vector<float>& settled) {
  const Table& table = model_.tables[step.table];
  const std::size_t count = fine.size(), channels = step.end - step.begin;
  settled = fine;
  if (model_.exact) {
    strings_[step.string] =
        to_bytes(encode(symbols_.data(), rows_.data(), count, table.cdfs, Layout::kBySize));
    return;
  }
  const std::vector<float> guards[] = {guards_of(step.scale_gains), guards_of(step.value_gains)};
  const std::vector<float>& scales = values_[step.scales];
  SyncPlan plan =
      plan_sync(scales.data(), is_rounded(step) ? fine.data() : nullptr, channels, count / channels,
                *table.levels, model_.grid, {guards[0].data(), guards[1].data(), model_.slope},
                kMaxBlocks);
  round_scales(scales.data(), count, *table.levels, plan.ranks.data(), plan.ranks.size(),
               rows_.data());
  Rounding told;
  told.scales.elements = std::move(plan.scale_exceptions);
  for (const std::int32_t i : told.scales.elements) {
    told.scales.results.push_back(rows_[static_cast<std::size_t>(i)]);
  }
  if (is_rounded(step)) {
    std::vector<std::int32_t> steps(count);
    round_values(fine.data(), count, model_.grid, plan.ranks.data(), plan.ranks.size(),
                 steps.data());
    from_steps(steps, model_.grid, settled);
    told.values.elements = std::move(plan.value_exceptions);
    for (const std::int32_t i : told.values.elements) {
      told.values.results.push_back(steps[static_cast<std::size_t>(i)]);
    }
  }
  told.ranks = std::move(plan.ranks);
  for (std::int32_t& row : rows_) row = table.level_rows[static_cast<std::size_t>(row)];
  OperationQueue stream;
  write_rounding(stream, told);
  stream.append(symbols_.data(), rows_.data(), count, table.cdfs);
  strings_[step.string] = to_bytes(stream.flush(Layout::kBySize));
}

}  // namespace compressai::cai
