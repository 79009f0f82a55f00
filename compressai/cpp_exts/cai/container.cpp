// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "container.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../rans_format.hpp"

namespace compressai::cai {
namespace {

constexpr std::uint8_t kMagic[4] = {0x93, 'C', 'A', 'I'};
constexpr int kVersion = 2;
constexpr unsigned kRandomWeights = 1, kSyncSafe = 2, kHashes = 4, kPlaced = 8, kOnScale = 16,
                   kInterleaved = 32;
constexpr unsigned kKnownFlags =
    kRandomWeights | kSyncSafe | kHashes | kPlaced | kOnScale | kInterleaved;
enum Kind : unsigned { kTile, kAlpha, kIcc, kExif, kKinds, kOptional = 128 };
constexpr const char* kNames[kKinds] = {"a tile", "the alpha plane", "the ICC profile", "EXIF"};
constexpr std::uint64_t kMaxStrings = 1 << 16;
constexpr std::size_t kFixedBytes = 10;
constexpr double kQualitySteps = 65536;

struct Section {
  unsigned kind;
  std::uint64_t length;
};

[[noreturn]] void impossible(const std::string& what) {
  throw Failure(CAI_IMPOSSIBLE_HEADER, "impossible header: " + what);
}

void check_sum(FieldReader& file, Bytes content, std::uint32_t before, const std::string& name) {
  if (file.word() == crc32c(content, before)) return;
  throw Failure(CAI_CHECKSUM,
                name + " was changed: its checksum does not match; get the file again");
}

// The checksum of what the sum of a section covers before its bytes.
std::uint32_t place_sum(std::uint32_t head_sum, std::size_t number) {
  std::uint8_t place[2 * kWordBytes];
  store_word(place, head_sum);
  store_word(place + kWordBytes, static_cast<std::uint32_t>(number));
  return crc32c({place, sizeof place});
}

void check_directory(const Container& found, const std::vector<Section>& sections) {
  if (found.tile_size != 0 && found.tile_size < kMinTile) impossible("tiles are too small");
  if (2 * found.tile_overlap > found.tile_size) impossible("tiles overlap too much");
  const auto is_tile = [](const Section& section) { return section.kind == kTile; };
  const auto tiles = static_cast<std::uint64_t>(
      std::count_if(sections.begin(), sections.end(), is_tile));
  if (tiles != found.tiling().count() ||
      !std::all_of(sections.begin(), sections.begin() + static_cast<std::ptrdiff_t>(tiles),
                   is_tile)) {
    impossible("the image has " + std::to_string(found.tiling().count()) +
               " tiles before all else, the file " + std::to_string(tiles));
  }
  bool there[kKinds] = {};
  for (std::size_t i = tiles; i < sections.size(); ++i) {
    const unsigned kind = sections[i].kind;
    if (kind >= kOptional) continue;
    if (kind >= kKinds) {
      throw Failure(CAI_UNSUPPORTED_VERSION,
                    "the file has a section of kind " + std::to_string(kind) +
                        ", which this program does not know: update it");
    }
    if (there[kind]) impossible(std::string(kNames[kind]) + " is there twice");
    there[kind] = true;
  }
  if (there[kAlpha] != (found.mode.back() == 'A')) {
    impossible("mode " + found.mode + (there[kAlpha] ? " has no" : " needs an") + " alpha plane");
  }
}

std::vector<Section> read_header(FieldReader header, Container& found) {
  found.model = header.text();
  const unsigned whole = header.byte();
  found.quality = whole == 0 && !found.on_scale ? -1.0 : whole;
  if (found.on_scale) {
    const std::uint8_t* part = header.take(2).data;
    found.quality += (part[0] + 256.0 * part[1]) / kQualitySteps;
  }
  found.metric = header.byte();
  std::memcpy(found.fingerprint, header.take(sizeof found.fingerprint).data,
              sizeof found.fingerprint);
  found.width = header.varint();
  found.height = header.varint();
  found.mode = header.text();
  found.source_mode = header.text();
  found.tile_size = header.varint();
  found.tile_overlap = header.varint();
  const bool known_metric = found.metric < 2 || found.metric == 255;
  const bool known_mode =
      found.mode == "L" || found.mode == "LA" || found.mode == "RGB" || found.mode == "RGBA";
  if (!known_metric || !known_mode || found.width == 0 || found.height == 0) {
    impossible("metric " + std::to_string(found.metric) + ", mode " + found.mode + ", size " +
               std::to_string(found.width) + " x " + std::to_string(found.height));
  }
  const std::uint64_t count = header.varint();
  if (2 * count > header.left()) impossible("its table of sections is too large");
  std::vector<Section> sections;
  for (std::uint64_t i = 0; i < count; ++i) {
    const unsigned kind = header.byte();
    sections.push_back({kind, header.varint()});
  }
  check_directory(found, sections);
  return sections;
}

Tile read_tile(Bytes section, bool with_hash) {
  FieldReader reader(section);
  Tile tile;
  if (with_hash) std::memcpy(tile.hash, reader.take(sizeof tile.hash).data, sizeof tile.hash);
  const std::uint64_t count = reader.varint();
  if (count > std::min<std::uint64_t>(reader.left(), kMaxStrings)) {
    throw Failure(CAI_IMPOSSIBLE_HEADER,
                  "a tile has " + std::to_string(count) + " strings, which is impossible");
  }
  std::vector<std::uint64_t> lengths(static_cast<std::size_t>(count));
  for (std::uint64_t& length : lengths) length = reader.varint();
  for (const std::uint64_t length : lengths) tile.strings.push_back(reader.take(length));
  if (reader.left() != 0) {
    throw Failure(CAI_IMPOSSIBLE_HEADER, "a tile has more bytes than its strings");
  }
  return tile;
}

}  // namespace

bool Box::meets(const Box& other) const {
  return x < other.x + other.width && other.x < x + width && y < other.y + other.height &&
         other.y < y + height;
}

Tiling::Tiling(std::uint64_t w, std::uint64_t h, std::uint64_t side, std::uint64_t shared)
    : width(w), height(h), size(side), overlap(shared) {
  if ((size != 0 && size < kMinTile) || 2 * overlap > size) {
    throw Failure(CAI_INVALID_ARGUMENT,
                  "tiles must be 0 or at least 64 wide, and overlap by half of that at most");
  }
}

std::uint64_t Tiling::places(std::uint64_t length) const {
  if (size == 0 || length <= size) return 1;
  return (length - overlap + (size - overlap) - 1) / (size - overlap);
}

std::uint64_t Tiling::count() const {
  constexpr std::uint64_t most = std::uint64_t{1} << 63;
  const std::uint64_t across = places(width), down = places(height);
  return across > most / down ? most : across * down;
}

std::uint64_t Tiling::extent(std::uint64_t place, std::uint64_t length) const {
  return size == 0 ? length : std::min(size, length - start(place));
}

Box Tiling::box(std::uint64_t index) const {
  const std::uint64_t row = index / columns(), column = index % columns();
  return {start(column), start(row), extent(column, width), extent(row, height)};
}

std::vector<std::uint64_t> Tiling::meeting(const Box& region) const {
  std::vector<std::uint64_t> found;
  for (std::uint64_t index = 0; index < count(); ++index) {
    if (box(index).meets(region)) found.push_back(index);
  }
  return found;
}

std::vector<float> Tiling::ramps(std::uint64_t place, std::uint64_t length) const {
  std::vector<float> weights(static_cast<std::size_t>(extent(place, length)), 1.0f);
  for (std::uint64_t i = 0; i < overlap; ++i) {
    const float rise = (static_cast<float>(i) + 0.5f) / static_cast<float>(overlap);
    if (place > 0) weights[i] = rise;
    if (place + 1 < places(length)) weights[weights.size() - overlap + i] = 1 - rise;
  }
  return weights;
}

std::vector<float> Tiling::column_weights(std::uint64_t index) const {
  return ramps(index % columns(), width);
}

std::vector<float> Tiling::row_weights(std::uint64_t index) const {
  return ramps(index / columns(), height);
}

double on_steps(double quality) {
  return std::nearbyint(quality * kQualitySteps) / kQualitySteps;
}

Container read_container(Bytes bytes) {
  if (bytes.size == 0) throw Failure(CAI_TRUNCATED, "the file is empty");
  if (std::memcmp(bytes.data, kMagic, std::min(bytes.size, sizeof kMagic)) != 0) {
    throw Failure(CAI_NOT_A_CODED_IMAGE, "this is no .cai file: it begins otherwise");
  }
  if (bytes.size < 5) {
    throw Failure(CAI_TRUNCATED,
                  "the file is truncated: it has only " + std::to_string(bytes.size) + " bytes");
  }
  if (bytes.data[4] != kVersion) {
    throw Failure(CAI_UNSUPPORTED_VERSION, "the file has format version " +
                                               std::to_string(bytes.data[4]) +
                                               ", this program reads version 2 only");
  }
  FieldReader file(bytes);
  const unsigned flags = file.take(kFixedBytes).data[5];
  const std::uint32_t length = load_word(bytes.data + 6);
  const Bytes header = file.take(length);
  const Bytes head{bytes.data, kFixedBytes + header.size};
  check_sum(file, head, 0, "the header");
  const std::uint32_t head_sum = crc32c(head);
  if ((flags & ~kKnownFlags) != 0) {
    throw Failure(CAI_UNSUPPORTED_VERSION, "the file uses features (flags " +
                                               std::to_string(flags) +
                                               ") that this program does not know: update it");
  }
  Container found;
  found.random_weights = (flags & kRandomWeights) != 0;
  found.sync_safe = (flags & kSyncSafe) != 0;
  found.has_hashes = (flags & kHashes) != 0;
  found.on_scale = (flags & kOnScale) != 0;
  const std::vector<Section> sections = read_header(FieldReader(header), found);
  std::uint64_t total = 0;
  for (const Section& section : sections) total += section.length + kWordBytes;
  if (total > file.left()) {
    throw Failure(CAI_TRUNCATED, "the file is truncated: " + std::to_string(total) +
                                     " bytes are announced behind the header, " +
                                     std::to_string(file.left()) + " are there; get it again");
  }
  for (std::size_t i = 0; i < sections.size(); ++i) {
    const unsigned kind = sections[i].kind;
    const Bytes content = file.take(sections[i].length);
    check_sum(file, content, (flags & kPlaced) != 0 ? place_sum(head_sum, i) : 0,
              "section " + std::to_string(i) + " (" +
                  (kind < kKinds ? kNames[kind] : "kind " + std::to_string(kind)) + ")");
    if (kind == kTile) found.tiles.push_back(read_tile(content, found.has_hashes));
    if (kind == kAlpha) found.alpha = content;
    if (kind == kIcc) found.icc = content;
    if (kind == kExif) found.exif = content;
  }
  if (file.left() != 0) {
    throw Failure(CAI_DAMAGED, std::to_string(file.left()) +
                                   " bytes too many at the end of the file; get it again");
  }
  return found;
}

Buffer write_container(const Container& container) {
  std::vector<std::pair<unsigned, Buffer>> sections;
  bool interleaved = false;
  for (const Tile& tile : container.tiles) {
    Buffer content;
    if (container.has_hashes) put(content, {tile.hash, sizeof tile.hash});
    put_varint(content, tile.strings.size());
    for (const Bytes& string : tile.strings) put_varint(content, string.size);
    for (const Bytes& string : tile.strings) {
      put(content, string);
      interleaved = interleaved || is_interleaved(string.data, string.size);
    }
    sections.emplace_back(kTile, std::move(content));
  }
  const Bytes others[] = {container.alpha, container.icc, container.exif};
  for (unsigned i = 0; i < 3; ++i) {
    if (others[i].size == 0) continue;
    sections.emplace_back(kAlpha + i, Buffer(others[i].data, others[i].data + others[i].size));
  }
  Buffer header;
  put_text(header, container.model);
  const double steps = std::max(0.0, container.quality) * kQualitySteps;
  const auto quality = static_cast<std::uint32_t>(steps);
  header.push_back(static_cast<std::uint8_t>(quality >> 16));
  if (container.on_scale) {
    header.push_back(static_cast<std::uint8_t>(quality));
    header.push_back(static_cast<std::uint8_t>(quality >> 8));
  }
  header.push_back(static_cast<std::uint8_t>(container.metric));
  put(header, {container.fingerprint, sizeof container.fingerprint});
  put_varint(header, container.width);
  put_varint(header, container.height);
  put_text(header, container.mode);
  put_text(header, container.source_mode);
  put_varint(header, container.tile_size);
  put_varint(header, container.tile_overlap);
  put_varint(header, sections.size());
  for (const auto& [kind, content] : sections) {
    header.push_back(static_cast<std::uint8_t>(kind));
    put_varint(header, content.size());
  }
  Buffer file(kMagic, kMagic + sizeof kMagic);
  file.push_back(kVersion);
  file.push_back(static_cast<std::uint8_t>((container.random_weights ? kRandomWeights : 0) |
                                           (container.sync_safe ? kSyncSafe : 0) |
                                           (container.has_hashes ? kHashes : 0) |
                                           (container.on_scale ? kOnScale : 0) |
                                           (interleaved ? kInterleaved : 0) | kPlaced));
  put_word(file, static_cast<std::uint32_t>(header.size()));
  put(file, {header.data(), header.size()});
  const std::uint32_t head_sum = crc32c({file.data(), file.size()});
  put_word(file, head_sum);
  for (std::size_t i = 0; i < sections.size(); ++i) {
    const Bytes content{sections[i].second.data(), sections[i].second.size()};
    put(file, content);
    put_word(file, crc32c(content, place_sum(head_sum, i)));
  }
  return file;
}

}  // namespace compressai::cai
