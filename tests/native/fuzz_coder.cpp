// SPDX-License-Identifier: BSD-3-Clause-Clear
// Fuzzes the native code without Python. The input bytes choose tables, messages and the calls that are
// made with them. Bad arguments must end in std::invalid_argument, good ones must come back.
//
//   fuzz_coder ITERATIONS [SEED]    inputs by a generator: the same on every run
//   fuzz_coder --seconds N [SEED]   as many of these as that time allows
//   fuzz_coder FILE...              inputs from files
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "cdf_tables.hpp"
#include "fuzz_input.hpp"
#include "quantize_pmf.hpp"
#include "rans_batch.hpp"
#include "rans_decoder.hpp"
#include "rans_encoder.hpp"

namespace {

using compressai::CdfRow;
using compressai::CdfTables;
using compressai::Layout;
using Bytes = std::vector<std::uint8_t>;
using Ints = std::vector<std::int32_t>;

struct Model {
  std::vector<Ints> cdfs;
  Ints sizes, offsets;

  CdfTables build() const {
    std::vector<CdfRow> rows;
    for (const Ints& cdf : cdfs) rows.push_back({cdf.data(), cdf.size()});
    return CdfTables(rows, sizes.data(), offsets.data());
  }
};

Model make_model(Input& input) {
  Model model;
  const std::size_t rows = input.byte() % 5;
  for (std::size_t r = 0; r < rows; ++r) {
    Ints cdf;
    if (input.one_in(4)) {
      const std::uint32_t slots = input.below(5000) + 1;
      for (std::uint32_t i = 0; i < slots; ++i) {
        cdf.push_back(static_cast<std::int32_t>(65536 * i / slots));
      }
    } else {
      const std::size_t slots = input.byte() % 40;
      cdf.push_back(0);
      for (std::size_t i = 0; i < slots; ++i) {
        cdf.push_back(static_cast<std::int32_t>(input.below(65535) + 1));
      }
      std::sort(cdf.begin(), cdf.end());
      if (!input.one_in(8)) cdf.erase(std::unique(cdf.begin(), cdf.end()), cdf.end());
    }
    cdf.push_back(65536);
    model.sizes.push_back(static_cast<std::int32_t>(cdf.size()));
    model.offsets.push_back(any_int(input));
    if (input.one_in(32)) cdf[input.below(static_cast<std::uint32_t>(cdf.size()))] = any_int(input);
    if (input.one_in(32)) model.sizes.back() = any_int(input);
    model.cdfs.push_back(cdf);
  }
  return model;
}

Bytes bytes_of(const compressai::EncodedStream& stream) {
  Bytes bytes(stream.bytes());
  stream.write(bytes.data());
  return bytes;
}

Bytes encode(const Ints& symbols, const Ints& indexes, const CdfTables& tables,
             Layout layout = Layout::kPlain) {
  return bytes_of(
      compressai::encode(symbols.data(), indexes.data(), symbols.size(), tables, layout));
}

Layout layout_of(const Bytes& bytes) {
  return compressai::is_interleaved(bytes.data(), bytes.size()) ? Layout::kInterleaved
                                                                : Layout::kPlain;
}

// Decodes anything. What passes as a whole message must be encoded as just that.
bool decode_any(const Bytes& bytes, const Ints& indexes, const CdfTables& tables) {
  // On the heap without slack, so that the address sanitiser sees every read behind the end.
  const Bytes exact(bytes);
  Ints symbols(indexes.size());
  try {
    compressai::StreamReader reader(exact.data(), exact.size());
    reader.decode(indexes.data(), indexes.size(), tables, symbols.data());
    if (!reader.finished()) return false;
  } catch (const std::invalid_argument&) {
    return false;
  }
  REQUIRE(encode(symbols, indexes, tables, layout_of(bytes)) == bytes);
  return true;
}

void check_parts(Input& input, const Ints& symbols, const Ints& indexes, const Bytes& bytes,
                 const CdfTables& tables) {
  compressai::OperationQueue queue;
  compressai::StreamReader reader(bytes.data(), bytes.size());
  Ints decoded(symbols.size());
  for (std::size_t i = 0; i < symbols.size();) {
    const std::size_t count = std::min<std::size_t>(symbols.size() - i, input.byte() + 1);
    queue.append(symbols.data() + i, indexes.data() + i, count, tables);
    reader.decode(indexes.data() + i, count, tables, decoded.data() + i);
    i += count;
  }
  REQUIRE(bytes_of(queue.flush(layout_of(bytes))) == bytes);
  REQUIRE(queue.size() == 0);
  REQUIRE(decoded == symbols);
  REQUIRE(reader.finished());
}

void check_batch(Input& input, const Ints& symbols, const Ints& indexes, const CdfTables& tables) {
  const std::size_t batch = input.byte() % 4 + 1;
  const std::size_t count = symbols.size() / batch;
  const auto streams = compressai::encode_batch(symbols.data(), indexes.data(), batch, count,
                                                tables, input.byte() % 4);
  std::vector<Bytes> strings;
  std::vector<compressai::StreamBytes> views;
  for (std::size_t b = 0; b < batch; ++b) {
    const auto row = [&](const Ints& values) {
      return Ints(values.begin() + static_cast<std::ptrdiff_t>(b * count),
                  values.begin() + static_cast<std::ptrdiff_t>((b + 1) * count));
    };
    strings.push_back(bytes_of(streams[b]));
    REQUIRE(strings.back() == encode(row(symbols), row(indexes), tables));
  }
  for (const Bytes& string : strings) views.push_back({string.data(), string.size()});
  Ints decoded(batch * count);
  compressai::decode_batch(views, indexes.data(), count, tables, true, input.byte() % 4,
                           decoded.data());
  REQUIRE(std::equal(decoded.begin(), decoded.end(), symbols.begin()));
}

void fuzz_coder(Input& input) {
  const Model model = make_model(input);
  const CdfTables tables = model.build();  // refused tables end the run here
  const std::size_t count = input.one_in(16) ? input.below(20000) : input.byte() % 64;
  const std::uint32_t bad_index = input.one_in(8) ? input.below(64) : ~0u;
  Ints symbols, indexes;
  for (std::size_t i = 0; i < count; ++i) {
    const auto row = tables.rows() == 0 ? 0 : input.byte() % tables.rows();
    indexes.push_back(i == bad_index ? any_int(input) : static_cast<std::int32_t>(row));
    const std::int64_t near = std::int64_t{model.offsets.empty() ? 0 : model.offsets[row]} +
                              static_cast<int>(input.byte() % 64) - 8;
    const bool fits = near >= std::numeric_limits<std::int32_t>::min() &&
                      near <= std::numeric_limits<std::int32_t>::max();
    symbols.push_back(fits && !input.one_in(16) ? static_cast<std::int32_t>(near)
                                                : any_int(input));
  }
  const Layout layout = input.one_in(2) ? Layout::kInterleaved : Layout::kPlain;
  const Bytes bytes = encode(symbols, indexes, tables, layout);  // a bad index ends the run here
  REQUIRE(layout_of(bytes) == layout);
  REQUIRE(decode_any(bytes, indexes, tables));
  const Bytes plain = encode(symbols, indexes, tables);
  const bool is_long = plain.size() >= compressai::kInterleavedBytes;
  const Bytes by_size = encode(symbols, indexes, tables, Layout::kBySize);
  REQUIRE(is_long ? by_size.size() <= plain.size() + 28 : by_size == plain);
  check_parts(input, symbols, indexes, bytes, tables);
  check_batch(input, symbols, indexes, tables);

  for (int i = 0; i < 8; ++i) {
    Bytes damaged = bytes;
    for (std::uint32_t flips = input.byte() % 4; flips-- > 0;) {
      damaged[input.below(static_cast<std::uint32_t>(damaged.size()))] ^= 1u << input.byte() % 8;
    }
    if (input.one_in(2)) damaged.resize(input.below(static_cast<std::uint32_t>(bytes.size()) + 9));
    decode_any(damaged, indexes, tables);
  }
  Bytes random(input.byte() % 64);
  for (std::uint8_t& byte : random) byte = static_cast<std::uint8_t>(input.byte());
  decode_any(random, indexes, tables);
}

void fuzz_pmf(Input& input) {
  const int precision = input.one_in(8) ? any_int(input) : static_cast<int>(input.byte() % 25);
  const std::size_t count = input.one_in(8) ? input.below(70000) : input.byte();
  std::vector<float> pmf(count);
  for (float& p : pmf) {
    const std::uint32_t kind = input.byte();
    p = static_cast<float>(kind < 100 ? 0.0 : kind / (kind < 200 ? 1e7 : 255.0));
    if (kind == 255 && input.one_in(8)) p = std::numeric_limits<float>::quiet_NaN();
    if (kind == 254 && input.one_in(8)) p = -p * std::numeric_limits<float>::max() * 2;
  }
  std::vector<std::uint32_t> cdf(count + 1);
  compressai::quantize_pmf(pmf.data(), count, precision, cdf.data());
  REQUIRE(cdf.front() == 0 && cdf.back() == std::uint32_t{1} << precision);
  for (std::size_t i = 0; i < count; ++i) REQUIRE(cdf[i] < cdf[i + 1]);
}

void fuzz(const Bytes& bytes) {
  Input input(bytes.data(), bytes.size());
  try {
    switch (input.byte() % 9) {
      case 0: return fuzz_pmf(input);
      case 1:
      case 2: return fuzz_sync(input);
      case 3: return fuzz_symbols(input);
#ifdef COMPRESSAI_KERNELS
      case 4: return fuzz_scan(input);
#endif
      default: return fuzz_coder(input);
    }
  } catch (const std::invalid_argument&) {
  }
}

}  // namespace

int main(int argc, char** argv) {
  const bool timed = argc > 2 && std::string(argv[1]) == "--seconds";
  char* end = nullptr;
  const unsigned long limit = argc > 1 ? std::strtoul(argv[timed ? 2 : 1], &end, 10) : 2000;
  if (end != nullptr && *end != '\0') {
    for (int i = 1; i < argc; ++i) {
      std::ifstream file(argv[i], std::ios::binary);
      fuzz(Bytes{std::istreambuf_iterator<char>(file), {}});
    }
    return 0;
  }
  const int seed = timed ? 3 : 2;
  std::uint64_t state = argc > seed ? std::strtoul(argv[seed], nullptr, 10) : 1;
  const auto next = [&state] {  // splitmix64
    std::uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  };
  const auto start = std::chrono::steady_clock::now();
  const auto ongoing = [&](unsigned long done) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    return timed ? passed.count() < static_cast<double>(limit) : done < limit;
  };
  unsigned long i = 0;
  for (; ongoing(i); ++i) {
    Bytes bytes(next() % (i % 16 == 0 ? 65536 : 1024));
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(next());
    fuzz(bytes);
  }
  std::printf("%lu inputs\n", i);
  return 0;
}
