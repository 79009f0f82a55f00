// SPDX-License-Identifier: BSD-3-Clause-Clear
#include "scan.hpp"

#ifdef KERNEL_INSTRUCTIONS

namespace compressai {
namespace {

// States at once: they stay in registers.
constexpr std::size_t kStates = kLanes / 2;

// Constants: fit_functions.py. ln(1 + e^x): as x above 20, like torch; to 4e-7 of the result below.
inline Lanes softplus(Lanes x) {
  const Lanes magnitude = x < 0 ? -x : x;
  const Lanes z = exp2_negative(magnitude * -1.44269504f);
  // ln(1 + z) is twice the area tangent of s.
  const Lanes s = z / (z + 2.0f), q = s * s;
  Lanes p = Lanes{} + 1.21447786e-1f;
  p = p * q + 1.07153705e-1f;
  p = p * q + 1.43082984e-1f;
  p = p * q + 1.99994442e-1f;
  p = p * q + 3.33333378e-1f;
  p = p * q + 1.0f;
  const Lanes result = larger(x, Lanes{}) + (s + s) * p;
  return ((x > 20.0f) | (x != x)) ? x : result;
}

// Some channels of one position; zeros behind the last one, up to a whole panel.
inline void load_channels(const float* from, std::size_t count, float* to) {
  const std::size_t whole = count / kLanes * kLanes;
  for (std::size_t c = 0; c < whole; c += kLanes) store(to + c, load(from + c));
  for (std::size_t c = whole; c < count; ++c) to[c] = from[c];
  for (std::size_t c = count; c % kPanel; ++c) to[c] = 0;
}

// The places, in raster order, of positions from `first` on in the order of a direction.
inline void find_places(const SelectiveScan& call, std::size_t direction, std::size_t first,
                        std::size_t count, std::size_t* places) {
  const bool backwards = direction >= 2, columns = direction % 2 == 1;
  const std::size_t start = backwards ? call.height * call.width - first - count : first;
  std::size_t row = start % call.height, column = start / call.height;
  for (std::size_t i = 0; i < count; ++i) {
    places[backwards ? count - 1 - i : i] = columns ? row * call.width + column : start + i;
    if (++row < call.height) continue;
    row = 0;
    ++column;
  }
}

// One vector of channels and kTogether states through `count` positions.
template <std::size_t kTogether>
void scan_positions(std::size_t count, const float* steps, const float* inputs,
                    const float* const* vectors, std::size_t states, std::size_t first,
                    const float* decay, float* state, float* results) {
  Lanes h[kTogether], rates[kTogether];
  for (std::size_t n = 0; n < kTogether; ++n) {
    h[n] = load(state + (first + n) * kScanChannels);
    rates[n] = load(decay + (first + n) * kScanChannels);
  }
  for (std::size_t t = 0; t < count; ++t) {
    const Lanes step = load(steps + t * kScanChannels), input = load(inputs + t * kScanChannels);
    const float* const b = vectors[t] + first;
    const float* const c = b + states;
    Lanes sum = load(results + t * kScanChannels);
    for (std::size_t n = 0; n < kTogether; ++n) {
      h[n] = exp2_negative(step * rates[n]) * h[n] + input * b[n];
      sum += h[n] * c[n];
    }
    store(results + t * kScanChannels, sum);
  }
  for (std::size_t n = 0; n < kTogether; ++n) store(state + (first + n) * kScanChannels, h[n]);
}

}  // namespace

void KERNEL(scan_channels)(const SelectiveScan& call, const ScanBlock& block) {
  const std::size_t positions = call.height * call.width, first_channel = block.first;
  const std::size_t channels = block.channels, whole = whole_panels(channels);
  const std::size_t width = call.rank + 2 * call.states, pitch = call.directions * width;
  const std::size_t rank = call.weights ? call.rank : 0;
  const float* const x = call.x + block.image * positions * call.channels + first_channel;
  const float* const image = call.params + block.image * positions * pitch;
  float* const out = call.out + block.image * positions * call.channels + first_channel;
  const auto beyond = reinterpret_cast<std::uintptr_t>(block.scratch) % 64;
  float* const decay = block.scratch + (64 - beyond) % 64 / sizeof(float);
  float* const state = decay + call.states * kScanChannels;
  float* const weights = state + call.states * kScanChannels;
  float* const steps = weights + rank * kScanChannels;
  float* const inputs = steps + kScanPositions * kScanChannels;
  float* const results = inputs + kScanPositions * kScanChannels;
  const float* vectors[kScanPositions];
  std::size_t places[kScanPositions];
  float row[kScanChannels], own[kScanChannels] = {}, before[kScanChannels] = {};

  for (std::size_t direction = 0; direction < call.directions; ++direction) {
    const float* const params = image + direction * width;
    float bias[kScanChannels], skip[kScanChannels];
    load_channels(call.bias + direction * call.channels + first_channel, channels, bias);
    load_channels(call.skip + direction * call.channels + first_channel, channels, skip);
    for (std::size_t n = 0; n < call.states; ++n) {
      const std::size_t at = (direction * call.states + n) * call.channels + first_channel;
      load_channels(call.decay + at, channels, row);
      for (std::size_t i = 0; i < whole; ++i) {
        decay[n * kScanChannels + i] = row[i] * 1.44269504f;  // powers of 2 are easier than of e
        state[n * kScanChannels + i] = 0;
      }
    }
    for (std::size_t r = 0; r < rank; ++r) {
      const std::size_t at = (direction * rank + r) * call.channels + first_channel;
      load_channels(call.weights + at, channels, weights + r * kScanChannels);
    }
    for (std::size_t first = 0; first < positions; first += kScanPositions) {
      const std::size_t left = positions - first;
      const std::size_t count = left < kScanPositions ? left : kScanPositions;
      find_places(call, direction, first, count, places);
      for (std::size_t t = 0; t < count; ++t) {
        const float* const at = params + places[t] * pitch;
        vectors[t] = at + call.rank;
        if (!call.weights) load_channels(at + first_channel, channels, own);
        load_channels(x + places[t] * call.channels, channels, row);
        if (direction) load_channels(out + places[t] * call.channels, channels, before);
        for (std::size_t i = 0; i < whole; i += kLanes) {
          Lanes sum = load(bias + i) + load(own + i);
          for (std::size_t r = 0; r < rank; ++r) sum += at[r] * load(weights + r * kScanChannels + i);
          const Lanes step = softplus(sum), value = load(row + i);
          const std::size_t place = t * kScanChannels + i;
          store(steps + place, step);
          store(inputs + place, step * value);
          store(results + place, load(skip + i) * value + load(before + i));
        }
      }
      for (std::size_t i = 0; i < whole; i += kLanes) {
        for (std::size_t n = 0; n < call.states;) {
          const bool several = n + kStates <= call.states;
          const auto run = several ? scan_positions<kStates> : scan_positions<1>;
          run(count, steps + i, inputs + i, vectors, call.states, n, decay + i, state + i,
              results + i);
          n += several ? kStates : 1;
        }
      }
      for (std::size_t t = 0; t < count; ++t) {
        float* const to = out + places[t] * call.channels;
        const float* const from = results + t * kScanChannels;
        std::size_t c = 0;
        for (; c + kLanes <= channels; c += kLanes) store(to + c, load(from + c));
        for (; c < channels; ++c) to[c] = from[c];
      }
    }
  }
}

}  // namespace compressai

#else

#include "arguments.hpp"

using namespace nanobind::literals;

namespace compressai {

namespace {

constexpr const char* kSelectiveScan = R"(Selective scan of a map in one to four directions, whose results are added.

For each image, direction and channel c, with positions t in the order of the direction (row by
row, column by column, and both backwards)::

    step_t = softplus(bias[c] + sum over r of weights[r, c] * params_t[r])
    h_t[n] = exp(step_t * decay[n, c]) * h_{t-1}[n] + step_t * x_t[c] * B_t[n]
    y_t    = skip[c] * x_t[c] + sum over n of h_t[n] * C_t[n]

Args:
    x: ``(N, H, W, C)``, any C.
    params: ``(N, H, W, directions, R + 2 S)`` with R values, B and C of S states.
    weights: ``(directions, R, C)``; None if R is C and the R values are the sums themselves.
    bias: ``(directions, C)``.
    decay: ``(directions, S, C)``, none positive.
    skip: ``(directions, C)``.
    out: ``(N, H, W, C)``, written to: at each position the sum of the directions' y.
    threads: at most as many, and at most 256; the result does not depend on them.

Source: Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces".)";

void run(nb::handle given_x, nb::handle given_params, nb::handle given_weights,
         nb::handle given_bias, nb::handle given_decay, nb::handle given_skip, nb::handle given_out,
         int threads) {
  check_available();
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


void bind(nb::module_& m) {
  m.def("selective_scan", &run, "x"_a, "params"_a, "weights"_a.none(), "bias"_a, "decay"_a,
        "skip"_a, "out"_a, "threads"_a,
        nb::sig("def selective_scan(x: Tensor, params: Tensor, weights: Tensor | None, "
                "bias: Tensor, decay: Tensor, skip: Tensor, out: Tensor, threads: int) -> None"),
        kSelectiveScan);
}

const Registered registered(&bind);

}  // namespace
}  // namespace compressai

#endif
