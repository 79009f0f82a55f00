// SPDX-License-Identifier: BSD-3-Clause-Clear
// Fuzzes the selective scan: maps of any size and values, with the kernel for each set of
// instructions and any number of threads, against its formula in double precision. All arrays are
// as long as the call needs and no longer, so that a sanitiser sees what goes beyond.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "fuzz_input.hpp"
#include "kernels/scan.hpp"

namespace {

using compressai::SelectiveScan;
using Floats = std::vector<float>;
using Kernel = decltype(compressai::scan_channels());

float any_float(Input& input, bool wild, float most) {
  if (wild && input.one_in(32)) {
    const std::uint32_t bits = input.word();
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }
  return most * (static_cast<float>(input.byte()) - 127.5f) / 127.5f;
}

Floats any_floats(Input& input, std::size_t count, bool wild, float most) {
  Floats values(count);
  for (float& value : values) value = any_float(input, wild, most);
  return values;
}

std::size_t place_of(const SelectiveScan& call, std::size_t direction, std::size_t t) {
  const std::size_t positions = call.height * call.width;
  if (direction >= 2) t = positions - 1 - t;
  return direction % 2 ? t % call.height * call.width + t / call.height : t;
}

// The formula, for one channel of one image; `error` gets what rounding may add to each result.
void slow_scan(const SelectiveScan& call, std::size_t image, std::size_t c,
               std::vector<double>& out, std::vector<double>& error) {
  const std::size_t positions = call.height * call.width;
  const std::size_t width = call.rank + 2 * call.states;
  for (std::size_t d = 0; d < call.directions; ++d) {
    std::vector<double> h(call.states), size(call.states);
    for (std::size_t t = 0; t < positions; ++t) {
      const std::size_t place = image * positions + place_of(call, d, t);
      const float* const params = call.params + (place * call.directions + d) * width;
      const double x = call.x[place * call.channels + c];
      double sum = call.bias[d * call.channels + c];
      for (std::size_t r = 0; call.weights && r < call.rank; ++r) {
        sum += double{call.weights[(d * call.rank + r) * call.channels + c]} * params[r];
      }
      if (!call.weights) sum += params[c];
      const double step = sum > 20 ? sum : std::log1p(std::exp(sum));
      const double skipped = call.skip[d * call.channels + c] * x;
      double y = skipped, magnitude = std::abs(skipped);
      for (std::size_t n = 0; n < call.states; ++n) {
        const double decay = call.decay[(d * call.states + n) * call.channels + c];
        const double input = step * x * params[call.rank + n];
        const double factor = params[call.rank + call.states + n];
        h[n] = std::exp(step * decay) * h[n] + input;
        // Rounding of the step moves an exponential by its exponent times as much.
        size[n] = std::exp(step * decay) * (1 - step * decay) * size[n] + std::abs(input);
        y += h[n] * factor;
        magnitude += size[n] * std::abs(factor);
      }
      out[place * call.channels + c] += y;
      error[place * call.channels + c] += magnitude;
    }
  }
}

Floats scan(SelectiveScan call, Kernel kernel, int threads) {
  Floats out(call.batch * call.height * call.width * call.channels, -1.0f);
  call.out = out.data();
  call.threads = threads;
  compressai::selective_scan(call, kernel);
  return out;
}

}  // namespace

void fuzz_scan(Input& input) {
  if (!compressai::kernels_available()) return;
  SelectiveScan call;
  call.batch = input.byte() % 3;
  call.height = input.byte() % 7;
  call.width = input.byte() % 7;
  call.channels = input.one_in(4) ? 120 + input.byte() % 60 : input.byte() % 40;
  call.directions = 1 + input.byte() % compressai::kMostDirections;
  call.states = input.one_in(4) ? input.byte() % 36 : input.byte() % 6;
  const bool weighted = !input.one_in(3), wild = input.one_in(4);
  call.rank = weighted ? input.byte() % 5 : call.channels;

  const std::size_t area = call.batch * call.height * call.width;
  const std::size_t all = call.directions * call.channels;
  const Floats x = any_floats(input, area * call.channels, wild, 2);
  const std::size_t width = call.rank + 2 * call.states;
  const Floats params = any_floats(input, area * call.directions * width, wild, 2);
  const Floats weights = any_floats(input, weighted ? call.rank * all : 0, wild, 1);
  const Floats bias = any_floats(input, all, wild, 8);
  const Floats skip = any_floats(input, all, wild, 1);
  Floats decay = any_floats(input, call.states * all, wild, 4);
  for (float& value : decay) value = -std::abs(value);
  // An array that is not there is another thing than an empty one.
  const float none = 0;
  call.x = x.data();
  call.params = params.data();
  if (weighted) call.weights = weights.empty() ? &none : weights.data();
  call.bias = bias.data();
  call.skip = skip.data();
  call.decay = decay.data();

  std::vector<Kernel> kernels{compressai::scan_channels_avx2};
  if (compressai::has_avx512()) kernels.push_back(compressai::scan_channels_avx512);
  std::vector<double> wanted(x.size()), error(x.size());
  for (std::size_t image = 0; image < call.batch; ++image) {
    for (std::size_t c = 0; c < call.channels; ++c) slow_scan(call, image, c, wanted, error);
  }
  for (const Kernel kernel : kernels) {
    const Floats out = scan(call, kernel, 1);
    const Floats shared = scan(call, kernel, 2 + static_cast<int>(input.byte() % 4));
    REQUIRE(out.empty() || std::memcmp(out.data(), shared.data(), out.size() * sizeof(float)) == 0);
    for (std::size_t i = 0; !wild && i < out.size(); ++i) {
      REQUIRE(std::abs(out[i] - wanted[i]) <= 1e-5 * error[i] + 1e-6);
    }
  }
}
