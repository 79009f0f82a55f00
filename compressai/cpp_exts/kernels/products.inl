// SPDX-License-Identifier: BSD-3-Clause-Clear
// Products of matrices by seven multiplications of halves in place of eight (Strassen 1969, "Gaussian
// elimination is not optimal"), once or twice: of 2x2 parts or 4x4. Sums of parts of the weights are
// made when a model is prepared, those of the values for some pixels at a time.
namespace compressai {
namespace {

struct Term {
  std::size_t part;  // row of parts times their number, and column
  float sign;
};

struct Combination {
  std::size_t count;
  Term terms[4];
};

constexpr std::size_t kHalvesProducts = 7;

// Of the values, each product's factor; compressai/inference/fewer_products.py has those of weights.
constexpr Combination kFactors[kHalvesProducts] = {
    {2, {{0, 1}, {3, 1}}}, {2, {{2, 1}, {3, 1}}},  {1, {{0, 1}}},         {1, {{3, 1}}},
    {2, {{0, 1}, {1, 1}}}, {2, {{2, 1}, {0, -1}}}, {2, {{1, 1}, {3, -1}}}};
// Of the result, where each product is added.
constexpr Combination kTargets[kHalvesProducts] = {
    {2, {{0, 1}, {3, 1}}},  {2, {{2, 1}, {3, -1}}}, {2, {{1, 1}, {3, 1}}}, {2, {{0, 1}, {2, 1}}},
    {2, {{0, -1}, {1, 1}}}, {1, {{3, 1}}},          {1, {{0, 1}}}};

inline Combination combination(const Combination* table, std::size_t parts, std::size_t product) {
  if (parts == 2) return table[product];
  const Combination& outer = table[product / kHalvesProducts];
  const Combination& inner = table[product % kHalvesProducts];
  Combination both{};
  for (std::size_t o = 0; o < outer.count; ++o) {
    for (std::size_t i = 0; i < inner.count; ++i) {
      const Term &of = outer.terms[o], &in = inner.terms[i];
      const std::size_t row = of.part / 2 * 2 + in.part / 2, column = of.part % 2 * 2 + in.part % 2;
      both.terms[both.count++] = {row * 4 + column, of.sign * in.sign};
    }
  }
  return both;
}

// Some pixels times some columns of each part of the columns.
struct PartedProduct {
  std::size_t parts, products;
  const float* values;         // [pixel][inputs]
  std::size_t pixels, inputs;
  std::size_t rows;            // of a part, whole groups; behind the last pixel they are zero
  const float* weights;        // [product][panel][input of a part][16]
  std::size_t panels;          // of a part
  std::size_t first, count;    // panels of each part that are computed
  float* combined;             // [row][input of a part]
  float* sums;                 // [part][panel][row][16], what comes out

  std::size_t depth() const { return inputs / parts; }
  std::size_t part_size() const { return count * rows * kColumns; }
};

template <std::size_t kTerms>
inline void combine_row(const float* const* from, const float* signs, std::size_t depth, float* to) {
  for (std::size_t k = 0; k < depth; k += kLanes) {
    Lanes value = {};
    for (std::size_t t = 0; t < kTerms; ++t) value += signs[t] * load(from[t] + k);
    store(to + k, value);
  }
}

inline void combine(const PartedProduct& call, const Combination& factor) {
  const std::size_t depth = call.depth();
  for (std::size_t row = 0; row < call.rows; ++row) {
    const float* from[4];
    float signs[4];
    std::size_t count = 0;
    for (std::size_t t = 0; t < factor.count; ++t) {
      const Term& term = factor.terms[t];
      const std::size_t pixel = term.part / call.parts * call.rows + row;
      if (pixel >= call.pixels) continue;
      from[count] = call.values + pixel * call.inputs + term.part % call.parts * depth;
      signs[count++] = term.sign;
    }
    float* const to = call.combined + row * depth;
    switch (count) {
      case 0: combine_row<0>(from, signs, depth, to); break;
      case 1: combine_row<1>(from, signs, depth, to); break;
      case 2: combine_row<2>(from, signs, depth, to); break;
      case 3: combine_row<3>(from, signs, depth, to); break;
      default: combine_row<4>(from, signs, depth, to);
    }
  }
}

// Terms of a sum in registers, and steps along the depth for each line of memory that is asked for.
constexpr std::size_t kPartedSums = 256, kSteps = 8;

// kRows rows times kVectors vectors of columns, added to parts of the result. Of what is
// read soon, so many lines of memory from `next` on are asked for at each step.
template <std::size_t kVectors>
__attribute__((noinline)) void add_tile(const float* values, std::size_t depth, const float* weights,
                                        std::size_t vector_stride, const float* next,
                                        std::size_t lines,
                                        const Combination& targets, std::size_t part_size, float* sums,
                                        std::size_t sums_stride) {
  for (std::size_t first = 0; first < depth; first += kPartedSums) {
    const std::size_t end = depth - first < kPartedSums ? depth : first + kPartedSums;
    Lanes tile[kRows][kVectors] = {};
    for (std::size_t at = first; at < end; at += kSteps) {
      for (std::size_t line = 0; line < lines; ++line, next += kColumns) {
        __builtin_prefetch(next, 0, 2);
      }
      for (std::size_t k = at; k < at + kSteps; ++k) {
        Lanes column[kVectors];
        for (std::size_t v = 0; v < kVectors; ++v) {
          column[v] = load(weights + k * kColumns + v * vector_stride);
        }
        for (std::size_t row = 0; row < kRows; ++row) {
          const Lanes value = broadcast(values[row * depth + k]);
          for (std::size_t v = 0; v < kVectors; ++v) tile[row][v] += value * column[v];
        }
      }
    }
    for (std::size_t t = 0; t < targets.count; ++t) {
      float* const to = sums + targets.terms[t].part * part_size;
      const bool added = targets.terms[t].sign > 0;
      for (std::size_t row = 0; row < kRows; ++row) {
        for (std::size_t v = 0; v < kVectors; ++v) {
          float* const at = to + row * kColumns + v * sums_stride;
          store(at, added ? load(at) + tile[row][v] : load(at) - tile[row][v]);
        }
      }
    }
  }
}

inline void multiply_parts(const PartedProduct& call) {
  constexpr bool kWide = kLanes == kColumns;  // as in multiply_panels
  constexpr std::size_t kInPanel = kColumns / kLanes;
  const std::size_t depth = call.depth(), panel_size = depth * kColumns;
  const std::size_t groups = call.rows / kRows;
  for (std::size_t i = 0; i < call.parts * call.parts * call.part_size(); ++i) call.sums[i] = 0;
  for (std::size_t product = 0; product < call.products; ++product) {
    combine(call, combination(kFactors, call.parts, product));
    const Combination targets = combination(kTargets, call.parts, product);
    const float* weights = call.weights + (product * call.panels + call.first) * panel_size;
    for (std::size_t panel = 0; panel < call.count;) {
      const bool two = kWide && panel + 1 < call.count;
      const std::size_t taken = two ? 2 : 1;
      const float* const of = weights + panel * panel_size;
      // What follows, a share of it for each group; there is nothing behind the last panels.
      const std::size_t left = call.count - panel - taken;
      const float* next = left ? of + taken * panel_size : of;
      const std::size_t share = left < taken ? 0 : taken * panel_size / groups / kColumns * kColumns;
      const std::size_t steps = depth / kSteps * kColumns, lines = (share + steps - 1) / steps;
      for (std::size_t group = 0; group < groups; ++group, next += share) {
        const float* const values = call.combined + group * kRows * depth;
        float* const sums = call.sums + (panel * call.rows + group * kRows) * kColumns;
        if (two) {
          add_tile<2>(values, depth, of, panel_size, next, lines, targets, call.part_size(), sums,
                      call.rows * kColumns);
        } else {
          add_tile<kInPanel>(values, depth, of, kLanes, next, lines, targets, call.part_size(), sums, kLanes);
        }
      }
      panel += taken;
    }
  }
}

}  // namespace
}  // namespace compressai
