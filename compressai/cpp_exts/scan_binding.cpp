// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "scan_binding.hpp"

#include <stdexcept>
#include <string>

#include "kernel_arguments.hpp"
#include "kernels.hpp"
#include "kernels_docs.hpp"
#include "selective_scan.hpp"

using namespace nanobind::literals;

namespace compressai {
namespace {

void run(nb::handle given_x, nb::handle given_params, nb::handle given_weights,
         nb::handle given_bias, nb::handle given_decay, nb::handle given_skip, nb::handle given_out,
         int threads) {
  if (!kernels_available()) throw std::runtime_error("no kernels for this processor");
  const auto x = take<const float, 4, Contiguous>(given_x, "x");
  const auto params = take<const float, 5, Contiguous>(given_params, "params");
  const auto bias = take<const float, 2, Contiguous>(given_bias, "bias");
  const auto decay = take_panels(given_decay, "decay");
  const auto skip = take<const float, 2, Contiguous>(given_skip, "skip");
  const auto out = take<float, 4, Contiguous>(given_out, "out");
  check_threads(threads);

  SelectiveScan call;
  call.x = x.data();
  call.batch = x.shape(0);
  call.height = x.shape(1);
  call.width = x.shape(2);
  call.channels = x.shape(3);
  call.params = params.data();
  call.directions = params.shape(3);
  check(call.directions >= 1 && call.directions <= kMostDirections,
        "params must have 1.." + std::to_string(kMostDirections) + " directions, got " +
            shape_of(params));
  call.states = decay.shape(1);
  check_shape(decay, {call.directions, call.states, call.channels}, "decay");
  check_shape(bias, {call.directions, call.channels}, "bias");
  check_shape(skip, {call.directions, call.channels}, "skip");
  call.rank = call.channels;
  if (!given_weights.is_none()) {
    const Panels weights = take_panels(given_weights, "weights");
    call.rank = weights.shape(1);
    check_shape(weights, {call.directions, call.rank, call.channels}, "weights");
    check_apart(out, weights, "weights");
    call.weights = weights.data();
  }
  check_shape(params,
              {call.batch, call.height, call.width, call.directions, call.rank + 2 * call.states},
              "params");
  check_shape(out, {call.batch, call.height, call.width, call.channels}, "out");
  check_apart(out, x, "x");
  check_apart(out, params, "params");
  check_apart(out, bias, "bias");
  check_apart(out, decay, "decay");
  check_apart(out, skip, "skip");
  call.bias = bias.data();
  call.decay = decay.data();
  call.skip = skip.data();
  call.out = out.data();
  call.threads = threads;
  const nb::gil_scoped_release release;
  selective_scan(call);
}

}  // namespace

void bind_selective_scan(nb::module_& m) {
  m.def("selective_scan", &run, "x"_a, "params"_a, "weights"_a.none(), "bias"_a, "decay"_a,
        "skip"_a, "out"_a, "threads"_a,
        nb::sig("def selective_scan(x: Tensor, params: Tensor, weights: Tensor | None, "
                "bias: Tensor, decay: Tensor, skip: Tensor, out: Tensor, threads: int) -> None"),
        docs::kSelectiveScan);
}

}  // namespace compressai
