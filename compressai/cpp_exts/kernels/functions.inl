// SPDX-License-Identifier: BSD-3-Clause-Clear
// Functions of vectors. See vectors.inl. Constants: fit_functions.py.
namespace compressai {
namespace {

typedef std::uint32_t Integers
    __attribute__((vector_size(KERNEL_LANES * sizeof(std::uint32_t)), aligned(4), may_alias));

inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }

inline float sum(Lanes value) {
  float total = 0;
  for (std::size_t i = 0; i < kLanes; ++i) total += value[i];
  return total;
}

// 2^x for x <= 0, to 1.5e-7 of the result; 2^-126 for less than -126.
inline Lanes exp2_negative(Lanes x) {
  x = larger(x, Lanes{} - 126.0f);
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the last bits.
  const Lanes magic = Lanes{} + 12582912.0f;
  const Lanes rounded = x + magic;
  const Lanes f = x - (rounded - magic);
  Lanes p = Lanes{} + 1.53533619e-4f;
  p = p * f + 1.33988744e-3f;
  p = p * f + 9.61843736e-3f;
  p = p * f + 5.55033247e-2f;
  p = p * f + 2.40226479e-1f;
  p = p * f + 6.93147203e-1f;
  p = p * f + 1.0f;
  Integers bits, exponent;
  __builtin_memcpy(&bits, &p, sizeof bits);
  __builtin_memcpy(&exponent, &rounded, sizeof exponent);
  bits += exponent << 23;
  __builtin_memcpy(&p, &bits, sizeof p);
  return p;
}

// x times the normal distribution function, which is 1/2 + x R(x^2) with a rational R, to 1.5e-6.
inline Lanes gelu(Lanes x) {
  const Lanes end = Lanes{} + 5.6f;
  const Lanes z = smaller(larger(x, -end), end), s = z * z;
  Lanes p = Lanes{} + 2.17105557e-8f;
  p = p * s + 6.59060534e-6f;
  p = p * s + 1.90156950e-4f;
  p = p * s + 4.80542904e-3f;
  p = p * s + 3.58473318e-2f;
  p = p * s + 3.98941901e-1f;
  Lanes q = Lanes{} + 1.18515465e-6f;
  q = q * s + 8.10116185e-5f;
  q = q * s + 2.00336339e-3f;
  q = q * s + 2.98040452e-2f;
  q = q * s + 2.56518679e-1f;
  q = q * s + 1.0f;
  return x * larger(z * (p / q) + 0.5f, Lanes{});
}

}  // namespace
}  // namespace compressai
