// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._CXX: quantisation of probabilities.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cxx_docs.hpp"
#include "python_arrays.hpp"
#include "quantize_pmf.hpp"

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
        nb::sig("def pmfs_to_quantized_cdfs(pmfs: NDArray | Tensor, tail_masses: Floats, "
                "lengths: Ints, precision: int = 16) -> NDArray"),
        docs::kQuantizeRows);
}

}  // namespace compressai
