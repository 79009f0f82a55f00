// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._CXX: quantisation of probabilities, and of what steers decoding.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cxx_docs.hpp"
#include "latent_symbols.hpp"
#include "python_arrays.hpp"
#include "quantize_pmf.hpp"
#include "sync_grid.hpp"

using namespace nanobind::literals;

namespace compressai {
namespace {

nb::list quantize_one(nb::handle pmf, int precision) {
  const FloatArray values(pmf, "pmf");
  std::vector<std::uint32_t> cdf(values.size() + 1);
  quantize_pmf(values.data(), values.size(), precision, cdf.data());
  nb::list result;
  for (const std::uint32_t entry : cdf) result.append(entry);
  return result;
}

nb::object quantize_rows(nb::handle pmfs, nb::handle tail_masses, nb::handle lengths,
                         int precision) {
  const FloatArray pmf(pmfs, "pmfs", 2);
  const FloatArray tails(tail_masses, "tail_masses", 2);
  const IntArray sizes(lengths, "lengths");
  if (pmf.dimensions() != 2) {
    type_error("pmfs", "must be an array or CPU tensor of 2 dimensions (rows, symbols)", pmfs);
  }
  if (precision > 30) {
    throw std::invalid_argument("precision must be at most 30 for int32 tables, got " +
                                std::to_string(precision));
  }
  if (tails.size() != pmf.rows() || sizes.size() != pmf.rows()) {
    throw std::invalid_argument("tail_masses and lengths must have one element per row of pmfs, " +
                                std::to_string(pmf.rows()) + ", got " +
                                std::to_string(tails.size()) + " and " +
                                std::to_string(sizes.size()));
  }
  const std::size_t width = pmf.columns();
  NewArray result(pmf.rows(), width + 2);
  std::int32_t* row = result.data();
  std::vector<float> values;
  std::vector<std::uint32_t> cdf;
  for (std::size_t r = 0; r < pmf.rows(); ++r, row += width + 2) {
    const std::int32_t size = sizes.data()[r];
    if (size < 0 || static_cast<std::size_t>(size) > width) {
      throw std::invalid_argument("lengths[" + std::to_string(r) + "] must be in 0.." +
                                  std::to_string(width) + ", the columns of pmfs, got " +
                                  std::to_string(size));
    }
    const float* first = pmf.data() + r * width;
    values.assign(first, first + size);
    values.push_back(tails.data()[r]);
    cdf.assign(width + 2, 0);
    try {
      quantize_pmf(values.data(), values.size(), precision, cdf.data());
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("row " + std::to_string(r) + ": " + error.what());
    }
    for (std::size_t i = 0; i < cdf.size(); ++i) row[i] = static_cast<std::int32_t>(cdf[i]);
  }
  return result.release();
}

// The shifts of the blocks, checked: they may come out of a damaged stream.
class Ranks {
 public:
  explicit Ranks(nb::handle ranks) : ranks_(ranks, "ranks") {
    const std::size_t blocks = ranks_.size();
    if (blocks == 0 || (blocks & (blocks - 1)) != 0) {
      throw std::invalid_argument("ranks must be as many as a power of two, got " +
                                  std::to_string(blocks));
    }
    for (std::size_t i = 0; i < blocks; ++i) {
      if (data()[i] < 0 || data()[i] >= kShifts) {
        throw std::invalid_argument("ranks must be in 0..127, got " + std::to_string(data()[i]));
      }
    }
  }
  const std::int32_t* data() const { return ranks_.data(); }
  std::size_t size() const { return ranks_.size(); }

 private:
  IntArray ranks_;
};

nb::object to_array(const std::vector<std::int32_t>& values) {
  NewArray array(values.size());
  std::copy(values.begin(), values.end(), array.data());
  return array.release();
}

void check_guards(const FloatArray& guards, std::size_t channels, const char* name) {
  if (guards.size() == channels) return;
  throw std::invalid_argument(std::string(name) + " must have one element a channel, " +
                              std::to_string(channels) + ", got " + std::to_string(guards.size()));
}

nb::tuple plan(nb::handle scales, nb::handle values, const ScaleLevels& levels, double step,
               nb::handle scale_guards, nb::handle value_guards, double slope,
               std::size_t max_blocks) {
  const FloatArray spread(scales, "scales", 2);
  if (spread.dimensions() != 2) {
    type_error("scales", "must be an array or CPU tensor of 2 dimensions (channels, positions)",
               scales);
  }
  std::optional<FloatArray> given, value_guard;
  const FloatArray scale_guard(scale_guards, "scale_guards");
  if (!values.is_none()) {
    given.emplace(values, "values", 2);
    value_guard.emplace(value_guards, "value_guards");
    if (given->rows() != spread.rows() || given->columns() != spread.columns()) {
      throw std::invalid_argument("values must have the shape of scales");
    }
  }
  check_guards(scale_guard, spread.rows(), "scale_guards");
  if (value_guard) check_guards(*value_guard, spread.rows(), "value_guards");
  const Guards guards{scale_guard.data(), value_guard ? value_guard->data() : nullptr, slope};
  SyncPlan result;
  {
    const nb::gil_scoped_release release;
    result = plan_sync(spread.data(), given ? given->data() : nullptr, spread.rows(),
                       spread.columns(), levels, step, guards, max_blocks);
  }
  return nb::make_tuple(to_array(result.ranks), to_array(result.scale_exceptions),
                        to_array(result.value_exceptions));
}

void check_first(std::size_t first, const ScaleLevels& levels) {
  if (first < levels.size()) return;
  throw std::invalid_argument("first must be a row of levels, 0.." +
                              std::to_string(levels.size() - 1) + ", got " + std::to_string(first));
}

nb::object table_rows(nb::handle scales, const ScaleLevels& levels, std::size_t first) {
  const FloatArray spread(scales, "scales", 2);
  check_first(first, levels);
  NewArray result(spread.size());
  {
    const nb::gil_scoped_release release;
    scale_rows(spread.data(), spread.size(), levels, first, result.data());
  }
  return result.release();
}

// A latent and what is predicted of it.
struct Predicted {
  Predicted(nb::handle values, nb::handle means, nb::handle scales)
      : latent(values, "values", 2), spread(scales, "scales", 2) {
    if (!means.is_none()) centre.emplace(means, "means", 2);
    const auto fits = [&](const FloatArray& other) {
      return other.rows() == latent.rows() && other.columns() == latent.columns();
    };
    if (!fits(spread) || (centre && !fits(*centre))) {
      throw std::invalid_argument("values, means and scales must have one shape");
    }
  }
  const float* means() const { return centre ? centre->data() : nullptr; }

  FloatArray latent, spread;
  std::optional<FloatArray> centre;
};

nb::tuple latent_symbols(nb::handle values, nb::handle means, nb::handle scales,
                         const ScaleLevels& levels, std::size_t first) {
  const Predicted given(values, means, scales);
  check_first(first, levels);
  const FloatArray& latent = given.latent;
  NewArray symbols(latent.rows(), latent.columns()), rows(latent.rows(), latent.columns());
  {
    const nb::gil_scoped_release release;
    symbols_and_rows(latent.data(), given.means(), given.spread.data(), latent.size(), levels,
                     first, symbols.data(), rows.data());
  }
  return nb::make_tuple(symbols.release(), rows.release());
}

nb::object with_dead_zone(nb::handle values, nb::handle means, nb::handle scales,
                          float dead_zone) {
  const Predicted given(values, means, scales);
  if (!(dead_zone >= 0 && std::isfinite(dead_zone))) {
    throw std::invalid_argument("dead_zone must be finite and not negative, got " +
                                std::to_string(dead_zone));
  }
  NewArray symbols(given.latent.rows(), given.latent.columns());
  {
    const nb::gil_scoped_release release;
    dead_zone_symbols(given.latent.data(), given.means(), given.spread.data(),
                      given.latent.size(), dead_zone, symbols.data());
  }
  return symbols.release();
}

nb::object shifted_rows(nb::handle scales, const ScaleLevels& levels, nb::handle ranks) {
  const FloatArray spread(scales, "scales", 2);
  const Ranks shifts(ranks);
  NewArray result(spread.size());
  {
    const nb::gil_scoped_release release;
    round_scales(spread.data(), spread.size(), levels, shifts.data(), shifts.size(),
                 result.data());
  }
  return result.release();
}

nb::object value_steps(nb::handle values, double step, nb::handle ranks) {
  const FloatArray given(values, "values", 2);
  const Ranks shifts(ranks);
  NewArray result(given.size());
  {
    const nb::gil_scoped_release release;
    round_values(given.data(), given.size(), step, shifts.data(), shifts.size(), result.data());
  }
  return result.release();
}

}  // namespace

NB_MODULE(_CXX, m) {
  // Models live until the interpreter ends, and with them their coders: no leak, no warning.
  nb::set_leak_warnings(false);
  m.doc() = docs::kModule;
  m.def("pmf_to_quantized_cdf", &quantize_one, "pmf"_a, "precision"_a,
        nb::sig("def pmf_to_quantized_cdf(pmf: Floats, precision: int) -> list[int]"),
        docs::kQuantizeOne);
  m.def("pmfs_to_quantized_cdfs", &quantize_rows, "pmfs"_a, "tail_masses"_a, "lengths"_a,
        "precision"_a = 16,
        nb::sig("def pmfs_to_quantized_cdfs(pmfs: Array, tail_masses: Floats, "
                "lengths: Ints, precision: int = 16) -> NDArray[numpy.int32]"),
        docs::kQuantizeRows);

  nb::class_<ScaleLevels>(m, "ScaleLevels", docs::kScaleLevels)
      .def(
          "__init__",
          [](ScaleLevels* self, nb::handle levels) {
            const FloatArray values(levels, "levels");
            new (self) ScaleLevels(values.data(), values.size());
          },
          "levels"_a, nb::sig("def __init__(self, levels: Floats) -> None"))
      .def("__len__", &ScaleLevels::size);
  m.def("table_rows", &table_rows, "scales"_a, "levels"_a, "first"_a = 0,
        nb::sig("def table_rows(scales: Array, levels: ScaleLevels, first: int = 0) "
                "-> NDArray[numpy.int32]"),
        docs::kTableRows);
  m.def("latent_symbols", &latent_symbols, "values"_a, "means"_a.none(), "scales"_a, "levels"_a,
        "first"_a = 0,
        nb::sig("def latent_symbols(values: Array, means: Array | None, "
                "scales: Array, levels: ScaleLevels, first: int = 0) "
                "-> tuple[NDArray[numpy.int32], NDArray[numpy.int32]]"),
        docs::kLatentSymbols);
  m.def("dead_zone_symbols", &with_dead_zone, "values"_a, "means"_a.none(), "scales"_a,
        "dead_zone"_a,
        nb::sig("def dead_zone_symbols(values: Array, means: Array | None, scales: Array, "
                "dead_zone: float) -> NDArray[numpy.int32]"),
        docs::kDeadZoneSymbols);
  m.def("plan_sync", &plan, "scales"_a, "values"_a.none(), "levels"_a, "step"_a, "scale_guards"_a,
        "value_guards"_a.none(), "slope"_a, "max_blocks"_a = 4096,
        nb::sig("def plan_sync(scales: Array, values: Array | None, "
                "levels: ScaleLevels, step: float, scale_guards: Floats, "
                "value_guards: Floats | None, slope: float, max_blocks: int = 4096) "
                "-> tuple[NDArray[numpy.int32], NDArray[numpy.int32], NDArray[numpy.int32]]"),
        docs::kPlanSync);
  m.def("round_scales", &shifted_rows, "scales"_a, "levels"_a, "ranks"_a,
        nb::sig("def round_scales(scales: Array, levels: ScaleLevels, ranks: Ints) "
                "-> NDArray[numpy.int32]"),
        docs::kRoundScales);
  m.def("round_values", &value_steps, "values"_a, "step"_a, "ranks"_a,
        nb::sig("def round_values(values: Array, step: float, ranks: Ints) "
                "-> NDArray[numpy.int32]"),
        docs::kRoundValues);
}

}  // namespace compressai
