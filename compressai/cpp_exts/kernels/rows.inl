// SPDX-License-Identifier: BSD-3-Clause-Clear
// Layers on rows of channels: linear ones, and normalisation. See vectors.inl.
namespace compressai {
namespace {

enum class Then { kStore, kGelu, kAdd };  // what becomes of a result

constexpr std::size_t kParts = kPanel / kLanes;

template <Then then, std::size_t Rows>
__attribute__((noinline)) void linear_rows(const float* in, std::size_t in_stride, std::size_t channels,
                                        const float* weights, const float* bias, float* out,
                                        std::size_t out_stride) {
  Lanes sums[Rows][kParts];
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t i = 0; i < kParts; ++i) sums[r][i] = load(bias + i * kLanes);
  }
  for (std::size_t c = 0; c < channels; ++c) {
    Lanes parts[kParts];
    for (std::size_t i = 0; i < kParts; ++i) parts[i] = load(weights + c * kPanel + i * kLanes);
    for (std::size_t r = 0; r < Rows; ++r) {
      const float value = in[r * in_stride + c];
      for (std::size_t i = 0; i < kParts; ++i) sums[r][i] += value * parts[i];
    }
  }
  for (std::size_t r = 0; r < Rows; ++r) {
    for (std::size_t i = 0; i < kParts; ++i) {
      float* const at = out + r * out_stride + i * kLanes;
      Lanes value = sums[r][i];
      if (then == Then::kGelu) value = gelu(value);
      if (then == Then::kAdd) value += load(at);
      store(at, value);
    }
  }
}

// Rows of `out` are as long as whole panels.
template <Then then>
void linear(const Linear& layer, const float* in, std::size_t in_stride, std::size_t rows,
            float* out, std::size_t out_stride) {
  const float* weights = layer.weights;
  for (std::size_t first = 0; first < layer.outputs; first += kPanel) {
    const float* const bias = layer.bias + first;
    std::size_t r = 0;
    const auto some = [&](auto kernel, std::size_t count) {
      for (; r + count <= rows; r += count) {
        kernel(in + r * in_stride, in_stride, layer.inputs, weights, bias,
               out + r * out_stride + first, out_stride);
      }
    };
    some(linear_rows<then, kRows>, kRows);
    if (kRows > 8) some(linear_rows<then, 8>, 8);
    if (kRows > 4) some(linear_rows<then, 4>, 4);
    some(linear_rows<then, 2>, 2);
    some(linear_rows<then, 1>, 1);
    weights += layer.inputs * kPanel;
  }
}

// Normalises `rows` rows over their channels, and clears what is behind those.
inline void normalize(const Norm& norm, std::size_t channels, const float* in, std::size_t rows,
                      std::size_t stride, float* out) {
  const std::size_t whole = channels / kLanes * kLanes;
  const float share = 1.0f / static_cast<float>(channels);
  for (std::size_t r = 0; r < rows; ++r, in += stride, out += stride) {
    Lanes sums = {};
    std::size_t c = 0;
    for (; c < whole; c += kLanes) sums += load(in + c);
    float total = sum(sums);
    for (; c < channels; ++c) total += in[c];
    const float mean = total * share;
    sums = Lanes{};
    for (c = 0; c < whole; c += kLanes) {
      const Lanes d = load(in + c) - mean;
      sums += d * d;
    }
    total = sum(sums);
    for (; c < channels; ++c) total += (in[c] - mean) * (in[c] - mean);
    const float factor = 1.0f / __builtin_sqrtf(total * share + norm.epsilon);
    for (c = 0; c < whole; c += kLanes) {
      store(out + c, (load(in + c) - mean) * factor * load(norm.weight + c) + load(norm.bias + c));
    }
    for (; c < channels; ++c) out[c] = (in[c] - mean) * factor * norm.weight[c] + norm.bias[c];
    for (; c < stride; ++c) out[c] = 0;
  }
}

}  // namespace
}  // namespace compressai
