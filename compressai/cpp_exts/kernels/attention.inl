// SPDX-License-Identifier: BSD-3-Clause-Clear
// Attention between the positions of one window. See vectors.inl.
namespace compressai {
namespace {

constexpr std::size_t kTile = 2 * kLanes;  // queries that are worked on together

struct Head {
  std::size_t positions, dim;
  std::size_t stride;      // from row to row of qkv
  std::size_t key, value;  // where they are in a row, as seen from the query
  std::size_t columns;     // of the bias
  std::size_t out_stride;
  float scale;
};

// Copies a head: queries scaled and turned, so that registers hold several of them.
template <std::size_t Dim>
__attribute__((noinline)) void gather(const Head& head, const float* qkv, float* queries,
                                      float* keys, float* values) {
  constexpr float kLog2E = 1.44269504f;
  const std::size_t dim = Dim != 0 ? Dim : head.dim;
  const std::size_t positions = head.positions, columns = head.columns;
  const float scale = head.scale * kLog2E;
  for (std::size_t i = 0; i < positions; ++i) {
    const float* const row = qkv + i * head.stride;
    for (std::size_t d = 0; d < dim; ++d) queries[d * columns + i] = row[d] * scale;
    __builtin_memcpy(keys + i * dim, row + head.key, dim * sizeof(float));
    __builtin_memcpy(values + i * dim, row + head.value, dim * sizeof(float));
  }
  for (std::size_t d = 0; d < dim; ++d) {
    for (std::size_t i = positions; i < columns; ++i) queries[d * columns + i] = 0;
  }
}

// Logits of some keys, from their bias on, and the largest of each query.
template <std::size_t Keys>
inline void add_products(const float* keys, std::size_t dim, const float* queries,
                         std::size_t columns, const float* bias, float* logits, Lanes (&most)[2]) {
  Lanes sums[Keys][2];
  for (std::size_t j = 0; j < Keys; ++j) {
    sums[j][0] = load(bias + j * columns);
    sums[j][1] = load(bias + j * columns + kLanes);
  }
  for (std::size_t d = 0; d < dim; ++d) {
    const Lanes a = load(queries + d * columns), b = load(queries + d * columns + kLanes);
    for (std::size_t j = 0; j < Keys; ++j) {
      const float key = keys[j * dim + d];
      sums[j][0] += key * a;
      sums[j][1] += key * b;
    }
  }
  for (std::size_t j = 0; j < Keys; ++j) {
    for (std::size_t half = 0; half < 2; ++half) {
      store(logits + j * kTile + half * kLanes, sums[j][half]);
      most[half] = larger(most[half], sums[j][half]);
    }
  }
}

template <std::size_t Dim>
__attribute__((noinline)) void fill_logits(const Head& head, const float* keys,
                                           const float* queries, const float* bias, float* logits,
                                           Lanes (&most)[2]) {
  const std::size_t dim = Dim != 0 ? Dim : head.dim;
  const std::size_t positions = head.positions, columns = head.columns;
  Lanes largest[2] = {Lanes{} - __builtin_inff(), Lanes{} - __builtin_inff()};
  std::size_t j = 0;
  for (; j + 4 <= positions; j += 4) {
    add_products<4>(keys + j * dim, dim, queries, columns, bias + j * columns, logits + j * kTile,
                    largest);
  }
  for (; j < positions; ++j) {
    add_products<1>(keys + j * dim, dim, queries, columns, bias + j * columns, logits + j * kTile,
                    largest);
  }
  most[0] = largest[0];
  most[1] = largest[1];
}

// Softmax but for a factor, which is left to the caller.
__attribute__((noinline)) void exponentiate(float* logits, std::size_t positions,
                                            const Lanes (&most)[2], Lanes (&factors)[2]) {
  const Lanes largest[2] = {most[0], most[1]};
  Lanes totals[2] = {};
  for (std::size_t j = 0; j < positions; ++j) {
    for (std::size_t half = 0; half < 2; ++half) {
      float* const at = logits + j * kTile + half * kLanes;
      const Lanes weight = exp2_negative(load(at) - largest[half]);
      store(at, weight);
      totals[half] += weight;
    }
  }
  factors[0] = 1.0f / totals[0];
  factors[1] = 1.0f / totals[1];
}

// Some channels of the result, for `count` queries.
template <std::size_t Channels>
inline void mix_channels(const float* values, std::size_t dim, const float* weights,
                         std::size_t positions, const Lanes (&factors)[2], std::size_t count,
                         float* scratch, float* out, std::size_t out_stride) {
  Lanes sums[Channels][2] = {};
  for (std::size_t j = 0; j < positions; ++j) {
    const Lanes a = load(weights + j * kTile), b = load(weights + j * kTile + kLanes);
    for (std::size_t d = 0; d < Channels; ++d) {
      const float value = values[j * dim + d];
      sums[d][0] += value * a;
      sums[d][1] += value * b;
    }
  }
  for (std::size_t d = 0; d < Channels; ++d) {
    store(scratch + d * kTile, sums[d][0] * factors[0]);
    store(scratch + d * kTile + kLanes, sums[d][1] * factors[1]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t d = 0; d < Channels; ++d) out[i * out_stride + d] = scratch[d * kTile + i];
  }
}

template <std::size_t Dim>
__attribute__((noinline)) void mix(const Head& head, const float* values, const float* weights,
                                   const Lanes (&factors)[2], std::size_t count, float* scratch,
                                   float* out) {
  const std::size_t dim = Dim != 0 ? Dim : head.dim;
  std::size_t d = 0;
  for (; d + 4 <= dim; d += 4) {
    mix_channels<4>(values + d, dim, weights, head.positions, factors, count, scratch, out + d,
                    head.out_stride);
  }
  for (; d < dim; ++d) {
    mix_channels<1>(values + d, dim, weights, head.positions, factors, count, scratch, out + d,
                    head.out_stride);
  }
}

template <std::size_t Dim>
void attend_head(const Head& head, const float* qkv, const float* bias, float* scratch,
                 float* out) {
  const std::size_t positions = head.positions;
  float* const queries = scratch;
  float* const weights = queries + head.dim * head.columns;
  float* const turned = weights + positions * kTile;
  float* const keys = turned + 4 * kTile;
  float* const values = keys + positions * head.dim;
  gather<Dim>(head, qkv, queries, keys, values);
  for (std::size_t first = 0; first < positions; first += kTile) {
    const std::size_t left = positions - first, count = left < kTile ? left : kTile;
    Lanes most[2], factors[2];
    fill_logits<Dim>(head, keys, queries + first, bias + first, weights, most);
    exponentiate(weights, positions, most, factors);
    mix<Dim>(head, values, weights, factors, count, turned, out + first * head.out_stride);
  }
}

// softmax(scale * q kT + bias) v of one head. `qkv` and `out` are at its first channel.
inline void attend(const Head& head, const float* qkv, const float* bias, float* scratch,
                   float* out) {
  switch (head.dim) {
    case 8: return attend_head<8>(head, qkv, bias, scratch, out);
    case 16: return attend_head<16>(head, qkv, bias, scratch, out);
    case 32: return attend_head<32>(head, qkv, bias, scratch, out);
    default: return attend_head<0>(head, qkv, bias, scratch, out);
  }
}

}  // namespace
}  // namespace compressai
