// SPDX-License-Identifier: BSD-3-Clause-Clear
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "objects.hpp"

using namespace compressai::cai;

namespace {

void check(const Model& model, std::uint32_t width, std::uint32_t height, std::uint32_t channels,
           const cai_encoding& encoding) {
  const auto refuse = [](const std::string& what) { throw Failure(CAI_INVALID_ARGUMENT, what); };
  if (width == 0 || height == 0) refuse("the image must have pixels");
  if (channels != 1 && channels != 3) refuse("channels must be 1 or 3");
  if (encoding.tile_size % model.multiple != 0) {
    refuse("tile_size must be a multiple of " + std::to_string(model.multiple));
  }
  const double lowest = model.rates == nullptr ? model.quality : model.rates->low();
  const double highest = model.rates == nullptr ? model.quality : model.rates->high();
  if (encoding.quality != nullptr &&
      !(lowest <= *encoding.quality && *encoding.quality <= highest)) {
    char text[80];
    std::snprintf(text, sizeof text, "quality must be in %g ... %g", lowest, highest);
    refuse(text);
  }
  if (encoding.quality != nullptr && model.rates != nullptr && !model.rates->has(*encoding.quality)) {
    refuse("quality must be a whole number");
  }
  if (!(encoding.tolerance >= 0 && encoding.tolerance < 1)) refuse("tolerance must be in [0, 1)");
}

std::vector<std::uint8_t> copied(const std::uint8_t* data, std::size_t size) {
  return data == nullptr ? std::vector<std::uint8_t>() : std::vector<std::uint8_t>(data, data + size);
}

}  // namespace

cai_encoder::cai_encoder(const cai_model& given, Bytes samples, std::uint32_t width,
                         std::uint32_t height, std::uint32_t channel_count,
                         const cai_encoding& encoding)
    : model(given.model), channels(channel_count) {
  check(model, width, height, channel_count, encoding);
  pixels.assign(samples.data, samples.data + samples.size);
  alpha = copied(encoding.alpha, encoding.alpha_size);
  icc = copied(encoding.icc, encoding.icc_size);
  exif = copied(encoding.exif, encoding.exif_size);
  tolerance = encoding.tolerance == 0 ? model.tolerance : double{encoding.tolerance};
  container.model = model.name;
  container.mode = std::string(channels == 1 ? "L" : "RGB") + (alpha.empty() ? "" : "A");
  container.source_mode = encoding.source_mode == nullptr ? container.mode : encoding.source_mode;
  container.width = width;
  container.height = height;
  container.tile_size = encoding.tile_size;
  container.tile_overlap = encoding.tile_overlap;
  if (container.tiling().count() == 1) container.tile_size = container.tile_overlap = 0;
  container.on_scale = model.rates != nullptr && !model.rates->whole();
  container.quality = encoding.quality == nullptr ? model.quality : *encoding.quality;
  if (container.on_scale) container.quality = on_steps(container.quality);
  container.metric = model.metric;
  container.random_weights = model.random_weights;
  container.sync_safe = container.has_hashes = true;
  std::memcpy(container.fingerprint, model.fingerprint, sizeof model.fingerprint);
  container.alpha = {alpha.data(), alpha.size()};
  container.icc = {icc.data(), icc.size()};
  container.exif = {exif.data(), exif.size()};
  container.tiles.resize(static_cast<std::size_t>(container.tiling().count()));
  strings.resize(container.tiles.size());
}

// The samples of a tile, whose last row and column are repeated until its sides are multiples.
std::vector<float> cai_encoder::samples_of(const Box& box) const {
  const auto width = static_cast<std::size_t>(padded(box.width, model.multiple));
  const auto height = static_cast<std::size_t>(padded(box.height, model.multiple));
  std::vector<float> samples(3 * height * width);
  for (std::size_t channel = 0; channel < 3; ++channel) {
    for (std::size_t y = 0; y < height; ++y) {
      const auto row = static_cast<std::size_t>(box.y + std::min<std::uint64_t>(y, box.height - 1));
      float* out = samples.data() + (channel * height + y) * width;
      for (std::size_t x = 0; x < width; ++x) {
        const auto column =
            static_cast<std::size_t>(box.x + std::min<std::uint64_t>(x, box.width - 1));
        const std::size_t pixel = row * static_cast<std::size_t>(container.width) + column;
        out[x] = static_cast<float>(pixels[pixel * channels + channel % channels]) / 255.0f;
      }
    }
  }
  return samples;
}

bool cai_encoder::next() {
  for (; done < container.tiles.size(); ++done) {
    if (!tile) {
      const Box box = container.tiling().box(done);
      tile = std::make_unique<TileEncoder>(
          model, static_cast<std::size_t>(padded(box.height, model.multiple)),
          static_cast<std::size_t>(padded(box.width, model.multiple)), container.quality,
          samples_of(box), tolerance);
    }
    if (tile->next(call)) return true;
    Tile& coded = container.tiles[done];
    strings[done] = tile->strings();
    for (const Buffer& string : strings[done]) {
      coded.strings.push_back({string.data(), string.size()});
    }
    std::memcpy(coded.hash, tile->hash(), sizeof coded.hash);
    tile.reset();
  }
  if (file.empty()) file = write_container(container);
  return false;
}
