// SPDX-License-Identifier: BSD-3-Clause-Clear
// The selective scan of some channels of an image. See kernel_common.inl.
#include "kernel_blocks.hpp"

namespace compressai {
namespace {

constexpr std::size_t kVectors = kScanChannels / kLanes;
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
  return (x > 20.0f) | (x != x) ? x : result;
}

// Some channels of one position, in vectors; zeros behind the last one.
inline void load_channels(const float* from, std::size_t count, float* to) {
  if (count == kScanChannels) {
    for (std::size_t v = 0; v < kVectors; ++v) store(to + v * kLanes, load(from + v * kLanes));
    return;
  }
  for (std::size_t c = 0; c < count; ++c) to[c] = from[c];
  for (std::size_t c = count; c < kScanChannels; ++c) to[c] = 0;
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
  const std::size_t rest = call.channels - first_channel;
  const std::size_t channels = rest < kScanChannels ? rest : kScanChannels;
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
  float row[kScanChannels];

  for (std::size_t direction = 0; direction < call.directions; ++direction) {
    const float* const params = image + direction * width;
    float bias[kScanChannels], skip[kScanChannels];
    load_channels(call.bias + direction * call.channels + first_channel, channels, bias);
    load_channels(call.skip + direction * call.channels + first_channel, channels, skip);
    for (std::size_t n = 0; n < call.states; ++n) {
      const std::size_t at = (direction * call.states + n) * call.channels + first_channel;
      load_channels(call.decay + at, channels, row);
      for (std::size_t i = 0; i < kScanChannels; ++i) {
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
        float own[kScanChannels] = {};
        if (!call.weights) load_channels(at + first_channel, channels, own);
        load_channels(x + places[t] * call.channels, channels, row);
        float before[kScanChannels] = {};
        if (direction) load_channels(out + places[t] * call.channels, channels, before);
        for (std::size_t i = 0; i < kScanChannels; i += kLanes) {
          Lanes sum = load(bias + i) + load(own + i);
          for (std::size_t r = 0; r < rank; ++r) sum += at[r] * load(weights + r * kScanChannels + i);
          const Lanes step = softplus(sum), value = load(row + i);
          const std::size_t place = t * kScanChannels + i;
          store(steps + place, step);
          store(inputs + place, step * value);
          store(results + place, load(skip + i) * value + load(before + i));
        }
      }
      for (std::size_t i = 0; i < kScanChannels; i += kLanes) {
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
        if (channels == kScanChannels) {
          for (std::size_t i = 0; i < kScanChannels; i += kLanes) store(to + i, load(from + i));
        } else {
          for (std::size_t c = 0; c < channels; ++c) to[c] = from[c];
        }
      }
    }
  }
}

}  // namespace compressai
