// SPDX-License-Identifier: BSD-3-Clause-Clear
// Arguments that the functions of compressai._kernels have in common.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace compressai {

namespace nb = nanobind;

using Values = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
// Weights: [panel][input][16 outputs].
using Panels = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

inline void check(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

template <typename Array>
std::string shape_of(const Array& array) {
  std::string text = "(";
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    text += (i ? ", " : "") + std::to_string(array.shape(i));
  }
  return text + ")";
}

template <typename Array>
void check_shape(const Array& array, std::initializer_list<std::size_t> shape,
                 const std::string& name) {
  std::string wanted;
  bool same = array.ndim() == shape.size();
  std::size_t axis = 0;
  for (const std::size_t side : shape) {
    wanted += (axis ? ", " : "") + std::to_string(side);
    same = same && array.shape(axis) == side;
    ++axis;
  }
  if (!same) check(false, name + " must be (" + wanted + "), got " + shape_of(array));
}

inline void check_threads(int threads) {
  check(threads > 0, "threads must be positive, got " + std::to_string(threads));
}

}  // namespace compressai
