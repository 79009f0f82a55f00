// SPDX-License-Identifier: BSD-3-Clause-Clear
// See tiles.hpp.
#include "tiles.hpp"

#ifdef KERNEL_INSTRUCTIONS

// One version of this file computes, that for AVX-512.
#ifdef KERNEL_TILES

#include <immintrin.h>

namespace compressai {
namespace {

typedef std::uint16_t Halves __attribute__((vector_size(32), aligned(2), may_alias));

// The upper halves of some floats: those that are bfloat16 already.
inline void store_pieces(std::uint16_t* to, Integers bits) {
  *reinterpret_cast<Halves*>(to) = __builtin_convertvector(bits >> 16, Halves);
}

inline Integers bits_of(Lanes value) {
  Integers bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline Lanes floats_of(Integers bits) {
  Lanes value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

// The nearest bfloat16.
inline Integers rounded(Lanes value) { return (bits_of(value) + 0x8000u) & 0xffff0000u; }

constexpr std::size_t kValues = kTileRows * kTileDepth;  // in a tile
constexpr std::size_t kStepSize = kPieces * kValues;

struct alignas(64) Configuration {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
// Constant, since compilers may not know that all of it is read.
const Configuration kConfiguration{
    1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// What kPieces pieces of two tiles of values and of two panels add to four tiles of the result. Tiles 0
// to 3 are the result, 4 and 5 values, 6 and 7 weights.
inline void add_step(const std::uint16_t* above, const std::uint16_t* below, const std::uint16_t* left,
                     const std::uint16_t* right) {
#define LOAD_VALUES(piece)                             \
  _tile_loadd(4, above + (piece) * kValues, 64);     \
  _tile_loadd(5, below + (piece) * kValues, 64);
#define LOAD_WEIGHTS(piece)                            \
  _tile_loadd(6, left + (piece) * kValues, 64);      \
  _tile_loadd(7, right + (piece) * kValues, 64);
#define ADD_PRODUCTS()      \
  _tile_dpbf16ps(0, 4, 6);  \
  _tile_dpbf16ps(1, 4, 7);  \
  _tile_dpbf16ps(2, 5, 6);  \
  _tile_dpbf16ps(3, 5, 7);
  // In an order in which one of two changes.
  LOAD_VALUES(0)
  LOAD_WEIGHTS(2)
  ADD_PRODUCTS()
  LOAD_WEIGHTS(1)
  ADD_PRODUCTS()
  LOAD_VALUES(1)
  ADD_PRODUCTS()
  LOAD_WEIGHTS(0)
  ADD_PRODUCTS()
  LOAD_VALUES(2)
  ADD_PRODUCTS()
  LOAD_VALUES(0)
  ADD_PRODUCTS()
#undef LOAD_VALUES
#undef LOAD_WEIGHTS
#undef ADD_PRODUCTS
}

}  // namespace

void split_values(const TiledProduct& call) {
  const std::size_t steps = tiled_depth(call.end - call.begin) / kTileDepth;
  const std::size_t rows = (call.rows + 2 * kTileRows - 1) / (2 * kTileRows) * (2 * kTileRows);
  for (std::size_t row = 0; row < rows; ++row) {
    std::uint16_t* to =
        call.pieces + (row / kTileRows * steps * kStepSize + row % kTileRows * kTileDepth);
    for (std::size_t k = 0; k < steps * kTileDepth; k += kLanes) {
      const bool given = row < call.rows && call.begin + k < call.end;
      const Lanes value = given ? load(call.values + row * call.depth + call.begin + k) : Lanes{};
      const Integers first = rounded(value);
      const Lanes rest = value - floats_of(first);
      const Integers second = rounded(rest);
      std::uint16_t* const at = to + k / kTileDepth * kStepSize + k % kTileDepth;
      store_pieces(at, first);
      store_pieces(at + kValues, second);
      store_pieces(at + 2 * kValues, bits_of(rest - floats_of(second)));
    }
  }
}

void multiply_tiles(const TiledProduct& call) {
  _tile_loadconfig(&kConfiguration);
  const std::size_t size = tiled_depth(call.end - call.begin) / kTileDepth * kStepSize;
  const std::size_t panel_size = tiled_depth(call.depth) / kTileDepth * kStepSize;
  const auto* const weights = reinterpret_cast<const std::uint16_t*>(call.weights) +
                              call.first * panel_size + call.begin / kTileDepth * kStepSize;
  const std::size_t stride = call.out_stride * sizeof(float);
  const std::size_t pairs = (call.rows + 2 * kTileRows - 1) / (2 * kTileRows);
  // Of the next two panels, what is asked for at each step.
  constexpr std::size_t kLine = 32;
  const std::size_t share = (kStepSize + pairs - 1) / pairs / kLine * kLine;
  for (std::size_t panel = 0; panel < call.panels; panel += 2) {
    const bool two = panel + 1 < call.panels;
    const std::uint16_t* const left = weights + panel * panel_size;
    const std::uint16_t* const right = two ? left + panel_size : left;
    const std::size_t ahead = panel + 3 < call.panels ? 2 * panel_size : 0;
    for (std::size_t pair = 0; pair < pairs; ++pair) {
      const std::uint16_t* const above = call.pieces + 2 * pair * size;
      const std::uint16_t* const below = above + size;
      float* const out = call.out + pair * 2 * kTileRows * call.out_stride + panel * kColumns;
      float* const under = out + kTileRows * call.out_stride;
      if (call.begin == 0) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      } else {
        _tile_loadd(0, out, stride);
        _tile_loadd(2, under, stride);
        // Of no account if there is no second panel.
        _tile_loadd(1, two ? out + kColumns : out, stride);
        _tile_loadd(3, two ? under + kColumns : under, stride);
      }
      for (std::size_t step = 0; step < size; step += kStepSize) {
        if (ahead) {
          for (std::size_t line = 0; line < share; line += kLine) {
            __builtin_prefetch(left + ahead + step + pair * share + line, 0, 2);
            __builtin_prefetch(right + ahead + step + pair * share + line, 0, 2);
          }
        }
        add_step(above + step, below + step, left + step, right + step);
      }
      _tile_stored(0, out, stride);
      _tile_stored(2, under, stride);
      if (two) {
        _tile_stored(1, out + kColumns, stride);
        _tile_stored(3, under + kColumns, stride);
      }
    }
  }
  _tile_release();
}

}  // namespace compressai

#endif

#else

#include <cstdlib>
#include <string_view>

#ifdef KERNELS_WITH_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "arguments.hpp"

namespace compressai {
namespace {

constexpr const char* kHasTiles = R"(Whether 1x1 convolutions take weights that are pieces in bfloat16.

That needs AMX tiles for bfloat16, and Linux. With ``ATEN_CPU_CAPABILITY`` as for :func:`available`, or
``avx512``, there are none.)";

#ifdef KERNELS_WITH_TILES
bool find_tiles() {
  const char* const limit = std::getenv("ATEN_CPU_CAPABILITY");
  if (!kernels_available() || !has_avx512() || (limit && std::string_view(limit) == "avx512")) return false;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
  if (!(edx & kAmxBf16) || !(edx & kAmxTile)) return false;
  // A process asks the system once, before any of its threads uses tiles; one that knows none refuses.
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

#ifndef KERNELS_WITH_TILES
bool find_tiles() { return false; }
#endif

void bind(nanobind::module_& m) {
  m.def("has_tiles", &has_tiles, nb::sig("def has_tiles() -> bool"), kHasTiles);
}

const Registered registered(&bind);

}  // namespace

bool has_tiles() {
  static const bool found = find_tiles();
  return found;
}

}  // namespace compressai

#endif
