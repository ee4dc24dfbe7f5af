// Packs weights, and says what this processor can do.
#include <stdlib.h>
#include <string.h>

#include "engine.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace {

constexpr size_t ALIGN = 64;

void* take(size_t bytes) { return aligned_alloc(ALIGN, (bytes + ALIGN) / ALIGN * ALIGN); }

int columns_of(int precision) { return precision == FLOAT32 ? 1 : precision == BFLOAT16 ? 2 : 4; }

uint32_t cell_of(const float* row, const int8_t* whole, int k, int precision, int cell) {
  uint32_t bits = 0;
  if (precision == FLOAT32) {
    memcpy(&bits, row + cell, 4);
    if (row[cell] == 0) bits = 0;
  } else if (precision == BFLOAT16) {
    for (int i = 0; i < 2 && cell * 2 + i < k; i++) {
      uint32_t value;
      memcpy(&value, row + cell * 2 + i, 4);
      if (row[cell * 2 + i] != 0) bits |= ((value + 0x7fff + ((value >> 16) & 1)) >> 16) << (16 * i);
    }
  } else {
    for (int i = 0; i < 4 && cell * 4 + i < k; i++) bits |= (uint32_t)(uint8_t)whole[cell * 4 + i] << (8 * i);
  }
  return bits;
}

// A row as int8 in -127..127 with its scale: the one that is given, or the largest value's.
void whole_numbers(const float* row, int k, const float* given, float* scale, int32_t* sum, int8_t* whole) {
  float most = 0;
  for (int i = 0; i < k; i++) {
    const float size = row[i] < 0 ? -row[i] : row[i];
    most = size > most ? size : most;
  }
  *scale = given ? *given : most / 127.0f;
  const float inverse = *scale > 0 ? 1.0f / *scale : 0.0f;
  int32_t total = 0;
  for (int i = 0; i < k; i++) {
    float value = row[i] * inverse;
    value = value > 127 ? 127 : value < -127 ? -127 : value;
    whole[i] = (int8_t)(value + (value < 0 ? -0.5f : 0.5f));
    total += whole[i];
  }
  *sum = total * 128;
}

bool pack_cells(Matrix* w, const float* dense, const int8_t* whole) {
  const int cells = (w->k + columns_of(w->precision) - 1) / columns_of(w->precision);
  w->column_blocks = (cells + w->block - 1) / w->block;
  w->row_blocks = (w->n + ROW_BLOCK - 1) / ROW_BLOCK;
  const size_t pairs = (size_t)w->row_blocks * w->column_blocks;
  w->starts = (int32_t*)take((pairs + 1) * sizeof(int32_t));
  w->counts = (uint8_t*)take(pairs * ROW_BLOCK);
  if (!w->starts || !w->counts) return false;
  memset(w->counts, 0, pairs * ROW_BLOCK);
  size_t held = 0;
  for (int pass = 0; pass < 2; pass++) {
    if (pass) {
      w->columns = (uint8_t*)take(held);
      w->cells = (uint32_t*)take(held * sizeof(uint32_t));
      if (!w->columns || !w->cells) return false;
    }
    size_t at = 0;
    for (size_t pair = 0; pair < pairs; pair++) {
      const int row0 = (int)(pair / w->column_blocks) * ROW_BLOCK;
      const int cell0 = (int)(pair % w->column_blocks) * w->block;
      w->starts[pair] = (int32_t)at;
      for (int row = row0; row < row0 + ROW_BLOCK && row < w->n; row++) {
        int count = 0;
        for (int cell = cell0; cell < cell0 + w->block && cell < cells; cell++) {
          const uint32_t bits = cell_of(dense + (size_t)row * w->k, whole + (size_t)row * w->k, w->k, w->precision, cell);
          if (!bits) continue;
          if (pass) {
            w->columns[at] = (uint8_t)(cell - cell0);
            w->cells[at] = bits;
          }
          at++;
          count++;
        }
        w->counts[pair * ROW_BLOCK + row - row0] = (uint8_t)count;
      }
    }
    w->starts[pairs] = (int32_t)at;
    held = at;
  }
  w->bytes = (pairs + 1) * 4 + pairs * ROW_BLOCK + held * 5;
  return true;
}

bool pack_tiles(Matrix* w, const int8_t* whole) {
  const int row_tiles = (w->n + LANES - 1) / LANES, tiles = (w->k + TILE_K - 1) / TILE_K;
  w->row_blocks = (w->n + ROW_BLOCK - 1) / ROW_BLOCK;
  w->column_blocks = tiles;
  w->starts = (int32_t*)take((row_tiles + 1) * sizeof(int32_t));
  w->masks = (uint64_t*)take((size_t)row_tiles * tiles * 16 * sizeof(uint64_t));
  if (!w->starts || !w->masks) return false;
  size_t held = 0;
  for (size_t i = 0; i < (size_t)w->n * w->k; i++) held += whole[i] != 0;
  w->values = (int8_t*)take(held + 64);  // the kernel reads a vector from the last value on
  if (!w->values) return false;
  memset(w->values + held, 0, 64);
  size_t at = 0;
  for (int r = 0; r < row_tiles; r++) {
    w->starts[r] = (int32_t)at;
    for (int tile = 0; tile < tiles; tile++)
      for (int group = 0; group < 16; group++) {
        uint64_t mask = 0;
        for (int row = 0; row < LANES; row++)
          for (int i = 0; i < 4; i++) {
            const int n = r * LANES + row, k = tile * TILE_K + group * 4 + i;
            if (n >= w->n || k >= w->k || !whole[(size_t)n * w->k + k]) continue;
            mask |= 1ull << (row * 4 + i);
            w->values[at++] = whole[(size_t)n * w->k + k];
          }
        w->masks[((size_t)r * tiles + tile) * 16 + group] = mask;
      }
  }
  w->starts[row_tiles] = (int32_t)at;
  w->bytes = (row_tiles + 1) * 4 + (size_t)row_tiles * tiles * 128 + held + 64;
  return true;
}

#if defined(__x86_64__)
bool saves(uint64_t states) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (((uint64_t)high << 32 | low) & states) == states;
}
#endif

const Kernels* best() {
#if defined(__x86_64__)
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return &KERNELS_GENERIC;
  const bool fma = c & bit_FMA, avx = c & bit_AVX;
  uint32_t b7 = 0, c7 = 0, d7 = 0, a71 = 0;
  __get_cpuid_count(7, 0, &a, &b7, &c7, &d7);
  __get_cpuid_count(7, 1, &a71, &b, &c, &d);
  const bool avx2 = avx && fma && (b7 & bit_AVX2) && saves(0x6);
  const bool avx512 = avx2 && (b7 & bit_AVX512F) && (b7 & bit_AVX512BW) && (b7 & bit_AVX512VL) && (b7 & bit_AVX512DQ) && saves(0xe6);
  const bool vnni = avx512 && (c7 & bit_AVX512VNNI) && (c7 & bit_AVX512VBMI2);
  const bool bf16 = a71 & (1u << 5);
  const bool amx = vnni && bf16 && (d7 & (1u << 24)) && (d7 & (1u << 25)) && saves(0x600e6);
  if (amx && KERNELS_AMX.prepare()) return &KERNELS_AMX;
  if (vnni) return &KERNELS_VNNI;
  if (avx512) return &KERNELS_AVX512;
  if (avx2) return &KERNELS_AVX2;
#endif
  return &KERNELS_GENERIC;
}

const Kernels* kernels = nullptr;

}  // namespace

const Kernels* chosen_kernels() {
  if (!kernels) kernels = best();
  return kernels;
}

// Sets of instructions that this machine has, from the least to the best one, by number; null beyond them.
SW_API const char* sw_instructions(int number) {
  static const Kernels* const ORDER[] = {
      &KERNELS_GENERIC,
#if defined(__x86_64__)
      &KERNELS_AVX2, &KERNELS_AVX512, &KERNELS_VNNI, &KERNELS_AMX,
#endif
  };
  const Kernels* last = best();
  for (int i = 0; i < (int)(sizeof ORDER / sizeof *ORDER); i++) {
    if (i == number) return ORDER[i]->name;
    if (ORDER[i] == last) break;
  }
  return nullptr;
}

// Use one of them for what is packed and run from now on (tests and benchmarks); false: the machine lacks it.
SW_API bool sw_use(const char* name) {
#if defined(__x86_64__)
  static const Kernels* const ALL[] = {&KERNELS_GENERIC, &KERNELS_AVX2, &KERNELS_AVX512, &KERNELS_VNNI, &KERNELS_AMX};
#else
  static const Kernels* const ALL[] = {&KERNELS_GENERIC};
#endif
  const Kernels* most = best();
  for (const Kernels* one : ALL) {
    if (!strcmp(one->name, name)) {
      kernels = one;
      return true;
    }
    if (one == most) break;
  }
  return false;
}

SW_API const char* sw_in_use() { return chosen_kernels()->name; }

// Whether products of this form and precision exist with the instructions in use.
SW_API bool sw_has(int form, int precision) {
  const Kernels* with = chosen_kernels();
  if (form == TILES) return precision == INT8 && with->tiles;
  return precision == FLOAT32 || (precision == INT8 ? with->int8_cells : with->bfloat16_cells);
}

SW_API void sw_free(Matrix* w) {
  if (!w) return;
  free(w->starts);
  free(w->counts);
  free(w->columns);
  free(w->cells);
  free(w->masks);
  free(w->values);
  free(w->scales);
  free(w->sums);
  free(w);
}

// A weight (n, k), row-major, packed; null where memory is short or the sizes are none. `scales` [n] of INT8, or null:
// from the largest value of each row.
SW_API Matrix* sw_pack(int form, int precision, int n, int k, const float* dense, const float* scales) {
  if (n < 1 || k < 1 || (int64_t)n * k > INT32_MAX || !sw_has(form, precision)) return nullptr;
  Matrix* w = (Matrix*)calloc(1, sizeof(Matrix));
  if (!w) return nullptr;
  w->form = form;
  w->precision = precision;
  w->n = n;
  w->k = k;
  w->block = precision == INT8 ? 64 : 128;
  int8_t* whole = nullptr;
  bool done = true;
  if (precision == INT8) {
    whole = (int8_t*)malloc((size_t)n * k);
    w->scales = (float*)take(n * sizeof(float));
    w->sums = (int32_t*)take(n * sizeof(int32_t));
    done = whole && w->scales && w->sums;
    for (int row = 0; done && row < n; row++)
      whole_numbers(dense + (size_t)row * k, k, scales ? scales + row : nullptr, w->scales + row, w->sums + row, whole + (size_t)row * k);
  }
  done = done && (form == CELLS ? pack_cells(w, dense, whole) : pack_tiles(w, whole));
  free(whole);
  if (!done) {
    sw_free(w);
    return nullptr;
  }
  return w;
}

SW_API int64_t sw_bytes(const Matrix* w) { return (int64_t)w->bytes + (w->precision == INT8 ? (int64_t)w->n * 8 : 0); }

int task_count(const Matrix* w) { return w->row_blocks; }

size_t scratch_bytes(const Matrix* w, int tokens) {
  const size_t vectors = tokens >= LANES * MAX_CHUNK ? MAX_CHUNK : (tokens + LANES - 1) / LANES;
  if (w->form == CELLS) return (size_t)ROW_BLOCK * vectors * LANES * 4;
  return 4096 + (size_t)(ROW_BLOCK / LANES) * ((w->k + TILE_K - 1) / TILE_K) * 1024;
}

size_t panel_bytes(int form, int precision, int tokens, int k) {
  const size_t padded = (size_t)(tokens + LANES - 1) / LANES * LANES;
  const int step = precision == FLOAT32 ? 16 : precision == BFLOAT16 ? 32 : 64;
  (void)form;
  return padded * (size_t)((k + step - 1) / step) * 64;
}

size_t attention_bytes(int head, int length) {
  const size_t keys = (length + 31) / 32, columns = (head + 31) / 32;
  const size_t tiles = keys * 2 * columns + keys * columns * 2 + columns + keys;
  const size_t by_tiles = tiles * 1024 + 16 * keys * 32 * sizeof(float) + 1024;
  const size_t by_lanes = (size_t)LANES * (head + length) * sizeof(float);
  return by_tiles > by_lanes ? by_tiles : by_lanes;
}
