// SPDX-License-Identifier: BSD-3-Clause-Clear
// The Python module compressai._kernels: layers for inference on the CPU. Each is in kernels/.
#include "kernels/arguments.hpp"

namespace compressai {
namespace {

constexpr const char* kModule = R"(Layers for inference on x86 processors with AVX2, for :mod:`compressai.inference`.

Feature maps are float32, CPU, channels last: contiguous ``(N, H, W, C)``, with a multiple of 16
channels. Results differ from those of torch in the last digits. Arguments that do not fit raise
ValueError or TypeError, so do arrays that are not aligned to 4 bytes, and an output that shares
memory with an input; RuntimeError where :func:`available` is false.)";

constexpr const char* kAvailable = R"(Whether this processor has the instructions that the layers need.

The environment variable ``ATEN_CPU_CAPABILITY`` limits the layers as it limits torch: with
``default`` there are none, with ``avx2`` those without AVX-512.)";

}  // namespace

NB_MODULE(_kernels, m) {
  nb::set_leak_warnings(false);
  m.doc() = kModule;
  m.def("available", &kernels_available, nb::sig("def available() -> bool"), kAvailable);
  for (const auto bind : Registered::all()) bind(m);
}

}  // namespace compressai
