// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "sync_notes.hpp"

#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

#include "../quantize_pmf.hpp"
#include "../sync_grid.hpp"

namespace compressai::cai {
namespace {

constexpr std::size_t kBlockBits = 13;  // 2^0 ... 2^12 blocks
constexpr double kMeanRanks[] = {0.05, 0.25, 1, 3, 8, 16, 28, 50};
constexpr std::size_t kMeans = sizeof kMeanRanks / sizeof *kMeanRanks;
enum Row : std::int32_t { kBlocks, kRankTable, kCount, kByte, kFirstRanks };
constexpr std::int64_t kMostSteps = 1 << 30;

[[noreturn]] void damaged(const char* how) {
  throw std::invalid_argument(std::string("the string is damaged: ") + how);
}

std::vector<float> uniform(std::size_t count) {
  return std::vector<float>(count, static_cast<float>(1.0 / static_cast<double>(count)));
}

// By multiplications only: the same bits everywhere.
std::vector<float> geometric(double mean, std::size_t count) {
  std::vector<float> masses;
  const double ratio = mean / (1 + mean);
  double mass = 1 / (1 + mean);
  for (std::size_t i = 0; i < count; ++i, mass *= ratio) {
    masses.push_back(static_cast<float>(mass));
  }
  return masses;
}

CdfTables make_tables() {
  std::vector<std::vector<float>> masses = {uniform(kBlockBits), uniform(kMeans),
                                            geometric(0.05, 64), uniform(256)};
  for (const double mean : kMeanRanks) masses.push_back(geometric(mean, kShifts));
  std::vector<std::vector<std::int32_t>> cdfs;
  std::vector<CdfRow> rows;
  std::vector<std::int32_t> sizes;
  for (std::vector<float>& row : masses) {
    row.push_back(0);  // the escape
    std::vector<std::uint32_t> cdf(row.size() + 1);
    quantize_pmf(row.data(), row.size(), kPrecision, cdf.data());
    cdfs.emplace_back(cdf.begin(), cdf.end());
    sizes.push_back(static_cast<std::int32_t>(cdf.size()));
  }
  for (const auto& cdf : cdfs) rows.push_back({cdf.data(), cdf.size()});
  return CdfTables(rows, sizes.data(), std::vector<std::int32_t>(rows.size()).data());
}

const CdfTables& tables() {
  static const CdfTables made = make_tables();
  return made;
}

std::vector<std::int32_t> read(StreamReader& stream, std::int32_t row, std::size_t count) {
  std::vector<std::int32_t> values(count);
  const std::vector<std::int32_t> rows(count, row);
  stream.decode(rows.data(), count, tables(), values.data());
  return values;
}

std::size_t read_below(StreamReader& stream, std::int32_t row, std::size_t limit) {
  const std::int32_t value = read(stream, row, 1)[0];
  if (value < 0 || static_cast<std::size_t>(value) >= limit) damaged("a number is beyond its limit");
  return static_cast<std::size_t>(value);
}

std::vector<std::int64_t> parse_varints(const std::vector<std::int32_t>& bytes) {
  std::vector<std::int64_t> numbers;
  std::int64_t value = 0;
  int shift = 0;
  for (const std::int32_t byte : bytes) {
    if (byte < 0 || byte > 255 || shift > 35) damaged("it has a number that is too large");
    value |= std::int64_t{byte & 127} << shift;
    shift += 7;
    if (byte < 128) {
      numbers.push_back(value);
      value = shift = 0;
    }
  }
  if (shift != 0) damaged("a number ends too early");
  return numbers;
}

Exceptions parse_exceptions(const std::int64_t* numbers, std::size_t count, std::size_t elements) {
  Exceptions found;
  std::int64_t last = 0;
  for (std::size_t i = 0; i < count; ++i) {
    last += numbers[2 * i];
    const std::int64_t code = numbers[2 * i + 1];
    const std::int64_t result = code % 2 != 0 ? -(code + 1) / 2 : code / 2;
    if (last >= static_cast<std::int64_t>(elements) || std::abs(result) > kMostSteps) {
      damaged("an exception is out of range");
    }
    found.elements.push_back(static_cast<std::int32_t>(last));
    found.results.push_back(static_cast<std::int32_t>(result));
  }
  return found;
}

void append_varint(std::vector<std::int32_t>& bytes, std::int64_t value) {
  for (; value >= 128; value >>= 7) bytes.push_back(static_cast<std::int32_t>(128 | (value & 127)));
  bytes.push_back(static_cast<std::int32_t>(value));
}

std::vector<std::int32_t> to_bytes(const Rounding& rounding) {
  std::vector<std::int32_t> bytes;
  if (rounding.scales.elements.empty() && rounding.values.elements.empty()) return bytes;
  append_varint(bytes, static_cast<std::int64_t>(rounding.scales.elements.size()));
  for (const Exceptions* exceptions : {&rounding.scales, &rounding.values}) {
    std::int64_t last = 0;
    for (std::size_t i = 0; i < exceptions->elements.size(); ++i) {
      const std::int64_t result = exceptions->results[i];
      append_varint(bytes, exceptions->elements[i] - last);
      append_varint(bytes, result >= 0 ? 2 * result : -2 * result - 1);
      last = exceptions->elements[i];
    }
  }
  return bytes;
}

void write(OperationQueue& stream, std::int32_t row, const std::vector<std::int32_t>& values) {
  const std::vector<std::int32_t> rows(values.size(), row);
  stream.append(values.data(), rows.data(), values.size(), tables());
}

// Which distribution takes the fewest bits for ranks of that mean.
std::size_t best_distribution(const std::vector<std::int32_t>& ranks) {
  const double mean = std::accumulate(ranks.begin(), ranks.end(), 0.0) /
                      static_cast<double>(ranks.size());
  std::size_t best = 0;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < kMeans; ++i) {
    const double bits = mean * std::log1p(1 / kMeanRanks[i]) + std::log1p(kMeanRanks[i]);
    if (bits < least) {
      least = bits;
      best = i;
    }
  }
  return best;
}

}  // namespace

void Exceptions::apply(std::vector<std::int32_t>& to) const {
  for (std::size_t i = 0; i < elements.size(); ++i) {
    to[static_cast<std::size_t>(elements[i])] = results[i];
  }
}

Rounding read_rounding(StreamReader& stream, std::size_t elements) {
  const std::size_t blocks = std::size_t{1} << read_below(stream, kBlocks, kBlockBits);
  const std::size_t table = read_below(stream, kRankTable, kMeans);
  // An exception takes a handful of bytes.
  const std::size_t notes = read_below(stream, kCount, 32 * (elements + 1));
  Rounding rounding;
  rounding.ranks = read(stream, kFirstRanks + static_cast<std::int32_t>(table), blocks);
  for (const std::int32_t rank : rounding.ranks) {
    if (rank < 0 || rank >= kShifts) damaged("it has a shift that does not exist");
  }
  const std::vector<std::int64_t> numbers = parse_varints(read(stream, kByte, notes));
  if (numbers.empty()) return rounding;
  const std::size_t pairs = (numbers.size() - 1) / 2;
  if (numbers.size() % 2 == 0 || numbers[0] > static_cast<std::int64_t>(pairs)) {
    damaged("exceptions are not complete");
  }
  const auto scales = static_cast<std::size_t>(numbers[0]);
  rounding.scales = parse_exceptions(numbers.data() + 1, scales, elements);
  rounding.values =
      parse_exceptions(numbers.data() + 1 + 2 * scales, pairs - scales, elements);
  return rounding;
}

void write_rounding(OperationQueue& stream, const Rounding& rounding) {
  std::int32_t bits = 0;
  while ((std::size_t{1} << bits) < rounding.ranks.size()) ++bits;
  const auto table = static_cast<std::int32_t>(best_distribution(rounding.ranks));
  const std::vector<std::int32_t> notes = to_bytes(rounding);
  write(stream, kBlocks, {bits});
  write(stream, kRankTable, {table});
  write(stream, kCount, {static_cast<std::int32_t>(notes.size())});
  write(stream, kFirstRanks + table, rounding.ranks);
  write(stream, kByte, notes);
}

}  // namespace compressai::cai
