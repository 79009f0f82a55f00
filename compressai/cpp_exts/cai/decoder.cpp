// SPDX-License-Identifier: BSD-3-Clause-Clear
#include <algorithm>
#include <cmath>
#include <cstring>

#include "objects.hpp"

using namespace compressai::cai;

namespace {

constexpr std::uint64_t kMaxPixels = std::uint64_t{1} << 27;
// Of one tile: what is not larger is decoded with any model, else it may take so many bytes for each
// pixel of the limit.
constexpr std::uint64_t kUntiledPixels = std::uint64_t{1} << 22;
constexpr double kBytesOfLimit = 32;

Box checked(const cai_region* region, const Container& container) {
  const Box whole{0, 0, container.width, container.height};
  if (region == nullptr) return whole;
  const Box box{region->x, region->y, region->width, region->height};
  if (box.width == 0 || box.height == 0 || box.x >= whole.width || box.y >= whole.height ||
      box.width > whole.width - box.x || box.height > whole.height - box.y) {
    throw Failure(CAI_INVALID_ARGUMENT, "region must be within an image of " +
                                            std::to_string(whole.width) + " x " +
                                            std::to_string(whole.height));
  }
  return box;
}

std::uint8_t to_byte(float sample) {
  sample = std::min(1.0f, std::max(0.0f, sample));
  return static_cast<std::uint8_t>(std::nearbyint(sample * 255));
}

}  // namespace

cai_file::cai_file(Bytes given)
    : bytes(given.data, given.data + given.size), container(read_container({bytes.data(), bytes.size()})) {
  const Container& found = container;
  info = {found.width, found.height, found.tile_size, found.tile_overlap, found.tiles.size(),
          found.quality, found.model.c_str(), found.mode.c_str(), found.source_mode.c_str(),
          found.alpha.data, found.alpha.size, found.icc.data, found.icc.size,
          found.exif.data, found.exif.size, found.metric,
          found.random_weights, found.sync_safe, found.has_hashes, {}};
  std::memcpy(info.fingerprint, found.fingerprint, sizeof info.fingerprint);
}

cai_decoder::cai_decoder(const cai_model& given, const cai_file& file, const cai_region* region,
                         std::uint64_t max_pixels)
    : model(given.model), container(file.container),
      quality(container.quality < 0 ? model.quality : container.quality),
      tiling(container.tiling()), wanted(checked(region, container)), needed() {
  const std::uint64_t most = max_pixels == 0 ? kMaxPixels : max_pixels;
  std::uint64_t area = 0;
  needed = tiling.meeting(wanted);
  for (const std::uint64_t index : needed) {
    const Box box = tiling.box(index);
    const std::uint64_t width = padded(box.width, model.multiple);
    const std::uint64_t height = padded(box.height, model.multiple);
    if (width > most / height || width * height > most - area) {
      throw Failure(CAI_TOO_LARGE, "the image has " + std::to_string(tiling.width) + " x " +
                                       std::to_string(tiling.height) +
                                       " pixels, more than the limit of " + std::to_string(most));
    }
    area += width * height;
    const double bytes = model.bytes_a_pixel * static_cast<double>(width * height);
    if (box.width * box.height > kUntiledPixels &&
        bytes > kBytesOfLimit * static_cast<double>(std::max(most, kMaxPixels))) {
      throw Failure(CAI_TOO_LARGE, std::to_string(box.width) + " x " + std::to_string(box.height) +
                                       " pixels in one tile take too much memory");
    }
  }
  check();
  const auto pixel_count = static_cast<std::size_t>(wanted.width * wanted.height);
  pixels.resize(pixel_count * (container.mode[0] == 'L' ? 1 : 3));
  if (tiling.count() > 1) sums.resize(3 * pixel_count);
}

// All tiles that will be decoded before any of them takes memory.
void cai_decoder::check() const {
  if (model.rates != nullptr &&
      (!model.rates->has(quality) || (model.rates->whole() && container.on_scale))) {
    throw Failure(CAI_IMPOSSIBLE_HEADER, "the file contradicts itself: " + container.model +
                                             " has no quality " + std::to_string(quality));
  }
  if (container.icc.size != 0 &&
      (container.icc.size < 40 || std::memcmp(container.icc.data + 36, "acsp", 4) != 0)) {
    throw Failure(CAI_DAMAGED, "the colour profile is none that others could read");
  }
  if (std::memcmp(container.fingerprint, model.fingerprint, sizeof model.fingerprint) != 0) {
    throw Failure(CAI_WRONG_WEIGHTS,
                  "the file was made with other weights of " + container.model + " than those at hand");
  }
  if (!model.exact && !container.sync_safe) {
    throw Failure(CAI_UNSUPPORTED_FILE,
                  "the file is not sync-safe: only the engine that made it decodes it");
  }
  for (const std::uint64_t index : needed) {
    const std::size_t count = container.tiles[static_cast<std::size_t>(index)].strings.size();
    if (count != model.strings) {
      throw Failure(CAI_IMPOSSIBLE_HEADER, "a tile has " + std::to_string(count) +
                                               " strings, the model makes " +
                                               std::to_string(model.strings));
    }
  }
}

bool cai_decoder::next() {
  for (; done < needed.size(); ++done) {
    if (!tile) {
      const Box box = tiling.box(needed[done]);
      tile = std::make_unique<TileDecoder>(
          model, static_cast<std::size_t>(padded(box.height, model.multiple)),
          static_cast<std::size_t>(padded(box.width, model.multiple)), quality,
          container.tiles[static_cast<std::size_t>(needed[done])], container.sync_safe,
          container.has_hashes);
    }
    if (tile->next(call)) return true;
    std::memcpy(hash, tile->hash(), sizeof hash);
    for (const float sample : tile->samples()) {
      if (std::isnan(sample)) throw Failure(CAI_DESYNC, "it has values that are not finite");
    }
    finish_tile();
    tile.reset();
  }
  if (!sums.empty()) {
    const auto width = static_cast<std::size_t>(wanted.width);
    const std::size_t plane = sums.size() / 3;
    for (std::size_t y = 0; y < wanted.height; ++y) {
      const float* row = sums.data() + y * width;
      const float* const rows[3] = {row, row + plane, row + 2 * plane};
      write_row(y, rows);
    }
    sums = {};
  }
  return false;
}

// A row of samples that begins at the left of what is wanted.
void cai_decoder::write_row(std::size_t y, const float* const rows[3]) {
  const auto width = static_cast<std::size_t>(wanted.width);
  const bool grey = container.mode[0] == 'L';
  std::uint8_t* out = pixels.data() + y * width * (grey ? 1 : 3);
  for (std::size_t x = 0; x < width; ++x) {
    const std::uint32_t red = to_byte(rows[0][x]), green = to_byte(rows[1][x]),
                        blue = to_byte(rows[2][x]);
    if (grey) {  // Luma of ITU-R BT.601 in 16 bits, as Pillow has it.
      *out++ = static_cast<std::uint8_t>((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16);
    } else {
      *out++ = static_cast<std::uint8_t>(red);
      *out++ = static_cast<std::uint8_t>(green);
      *out++ = static_cast<std::uint8_t>(blue);
    }
  }
}

void cai_decoder::finish_tile() {
  const std::uint64_t index = needed[done];
  const Box box = tiling.box(index);
  const auto stride = static_cast<std::size_t>(padded(box.width, model.multiple));
  const std::size_t plane =
      stride * static_cast<std::size_t>(padded(box.height, model.multiple));
  const std::uint64_t left = std::max(box.x, wanted.x), top = std::max(box.y, wanted.y);
  const std::uint64_t right = std::min(box.x + box.width, wanted.x + wanted.width);
  const std::uint64_t bottom = std::min(box.y + box.height, wanted.y + wanted.height);
  std::vector<float> along, down;
  if (!sums.empty()) {
    along = tiling.column_weights(index);
    down = tiling.row_weights(index);
  }
  for (std::uint64_t y = top; y < bottom; ++y) {
    const float* row = tile->samples().data() +
                       static_cast<std::size_t>((y - box.y) * stride + (left - box.x));
    if (sums.empty()) {
      const float* const rows[3] = {row, row + plane, row + 2 * plane};
      write_row(static_cast<std::size_t>(y - wanted.y), rows);
      continue;
    }
    const std::size_t area = sums.size() / 3;
    float* sum = sums.data() +
                 static_cast<std::size_t>((y - wanted.y) * wanted.width + (left - wanted.x));
    for (std::size_t channel = 0; channel < 3; ++channel, row += plane, sum += area) {
      for (std::size_t x = 0; x < right - left; ++x) {
        const float weight = down[static_cast<std::size_t>(y - box.y)] *
                             along[static_cast<std::size_t>(left - box.x) + x];
        sum[x] += weight * std::min(1.0f, std::max(0.0f, row[x]));
      }
    }
  }
}
