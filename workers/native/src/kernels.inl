// Products, attention, LayerNorm and activations for one set of instructions. Each kernels_*.cpp defines VL (floats of
// a vector), the macros of what it has (SW_AVX512, SW_VNNI, SW_AMX) and KERNELS, and includes this.
//
// Everything here has internal linkage: the linker must never take one set's function for another's.

#include <string.h>

#if defined(SW_AVX512)
#include <immintrin.h>
#endif

#include "engine.h"

namespace {

typedef float V __attribute__((vector_size(4 * VL)));
typedef int32_t W __attribute__((vector_size(4 * VL)));
typedef float VU __attribute__((vector_size(4 * VL), aligned(4), may_alias));

inline V load(const float* from) { return *(const VU*)from; }
inline void store(float* to, V value) { *(VU*)to = value; }
inline V all(float value) { return value - V{}; }
inline V larger(V a, V b) { return a > b ? a : b; }
inline V smaller(V a, V b) { return a < b ? a : b; }
inline int least(int a, int b) { return a < b ? a : b; }
inline int up(int value, int step) { return (value + step - 1) / step * step; }

// e^x, |relative error| < 2e-7: 2^n times a polynomial of the rest in [-ln 2 / 2, ln 2 / 2] (Cephes' degree).
inline V exponential(V x) {
  x = larger(smaller(x, all(88.0f)), all(-87.0f));
  const V scaled = x * 1.44269504f;
  const W n = __builtin_convertvector(scaled + (scaled < 0 ? all(-0.5f) : all(0.5f)), W);
  const V whole = __builtin_convertvector(n, V);
  const V rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  V p = all(1.9875691500e-4f);
  p = p * rest + 1.3981999507e-3f;
  p = p * rest + 8.3334519073e-3f;
  p = p * rest + 4.1665795894e-2f;
  p = p * rest + 1.6666665459e-1f;
  p = p * rest + 5.0000001201e-1f;
  p = p * rest * rest + rest + 1.0f;
  const W power = (n + 127) << 23;
  V two;
  memcpy(&two, &power, sizeof two);
  return p * two;
}

inline V tanh_of(V x) { return 1.0f - 2.0f / (1.0f + exponential(2.0f * x)); }

// x Phi(x). Phi(x) - 1/2 is x times a polynomial of x^2, a weighted Chebyshev fit on |x| <= 5; |error| < 2e-6.
inline V gelu(V x) {
  constexpr float EDGE = 5.0f;
  constexpr float FIT[] = {0.141363785f, -0.0702963322f, 0.0515210144f, -0.0404413752f, 0.0314358436f, -0.0232761875f, 0.0164314173f, -0.0111458777f, 0.00635025417f, -0.0027050802f, 0.00177939341f, -0.00160586415f, 0.000588983297f};
  const V w = smaller(x * x, all(EDGE * EDGE)) * (2 / (EDGE * EDGE)) - 1.0f;
  V p = all(FIT[12]);
#pragma GCC unroll 12
  for (int i = 11; i >= 0; i--) p = p * w + FIT[i];
  const V phi = smaller(larger(0.5f + x * p, all(0.0f)), all(1.0f));
  return x * (x > EDGE ? all(1.0f) : x < -EDGE ? all(0.0f) : phi);
}

inline V activated(V x, int activation) {
  switch (activation) {
    case GELU: return gelu(x);
    case GELU_TANH: return 0.5f * x * (1.0f + tanh_of(0.79788456f * (x + 0.044715f * x * x * x)));
    case RELU: return larger(x, all(0.0f));
    case TANH: return tanh_of(x);
    default: return x;
  }
}

inline float sum_of(V v) {
  float total = 0;
  for (int i = 0; i < VL; i++) total += v[i];
  return total;
}

// Rows of `columns` outputs, LANES at most, of one token, from sums that are scaled already.
inline void finish_row(const Finish& f, int token, int n0, int columns, const float* sums) {
  float* out = f.out + token * f.out_stride + n0;
  const float* residual = f.residual ? f.residual + token * f.residual_stride + n0 : nullptr;
  float whole[LANES];
  if (columns < LANES) {
    memset(whole, 0, sizeof whole);
    if (f.bias) memcpy(whole, f.bias + n0, columns * sizeof(float));
    float rest[LANES] = {};
    if (residual) memcpy(rest, residual, columns * sizeof(float));
    for (int i = 0; i < LANES; i += VL)
      store(whole + i, activated(load(sums + i) + load(whole + i), f.activation) + load(rest + i));
    memcpy(out, whole, columns * sizeof(float));
    return;
  }
  for (int i = 0; i < LANES; i += VL) {
    V value = load(sums + i);
    if (f.bias) value += load(f.bias + n0 + i);
    value = activated(value, f.activation);
    if (residual) value += load(residual + i);
    store(out + i, value);
  }
}

// Activations -------------------------------------------------------------------------------------------------------

// 16 x 16 cells: to[column][row] = from[row][column], strides in cells.
#if defined(SW_AVX512)
inline void transpose(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
  __m512i r[16], s[16];
  for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_si512(from + i * from_stride);
  for (int i = 0; i < 16; i += 2) {
    s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
  }
  for (int i = 0; i < 16; i += 8)
    for (int j = 0; j < 4; j++) {
      s[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      s[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  for (int j = 0; j < 8; j++) {
    r[j] = _mm512_shuffle_i32x4(s[j], s[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(s[j], s[j + 8], 0xdd);
  }
  for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + i * to_stride, r[i]);
}
#else
inline void transpose(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
  for (int column = 0; column < 16; column++)
    for (int row = 0; row < 16; row++) to[column * to_stride + row] = from[row * from_stride + column];
}
#endif

// Columns [first, first + 64 / bytes of one) of one token as 64 bytes, zeros beyond k.
inline void narrow(const float* x, int first, int k, int precision, float inverse, uint8_t* to) {
  if (precision == FLOAT32) {
    const int count = least(16, k - first);
    memset(to, 0, 64);
    memcpy(to, x + first, count * sizeof(float));
  } else if (precision == BFLOAT16) {
    uint16_t* halves = (uint16_t*)to;
    for (int i = 0; i < 32; i++) {
      uint32_t bits = 0;
      if (first + i < k) memcpy(&bits, x + first + i, 4);
      halves[i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
    }
  } else {
#if defined(SW_AVX512)
    const __m512 factor = _mm512_set1_ps(inverse);
    for (int i = 0; i < 64; i += 16) {
      const int left = k - first - i;
      const __mmask16 mask = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
      const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + first + i), factor));
      const __m128i bytes = _mm_xor_si128(_mm512_cvtsepi32_epi8(whole), _mm_set1_epi8((char)0x80));
      _mm_storeu_si128((__m128i*)(to + i), bytes);
    }
#else
    for (int i = 0; i < 64; i++) {
      const float value = first + i < k ? x[first + i] * inverse : 0;
      to[i] = (uint8_t)((int)(value + (value < 0 ? -0.5f : 0.5f)) + 128);
    }
#endif
  }
}

void pack(const Panel* panel, const float* x, int64_t x_stride, int first, int last) {
  const int columns = panel->precision == FLOAT32 ? 16 : panel->precision == BFLOAT16 ? 32 : 64;
  const int k = panel->k, steps = (k + columns - 1) / columns;
  alignas(64) uint8_t tile[LANES * 64];
  for (int start = first; start < last; start += LANES) {
    const int rows = least(LANES, last - start);
    float inverse[LANES] = {};
    if (panel->precision == INT8)
      for (int row = 0; row < rows; row++) {
        const float* from = x + (start + row) * x_stride;
        V most{};
        int i = 0;
        for (; i + VL <= k; i += VL) {
          const V value = load(from + i);
          most = larger(most, larger(value, -value));
        }
        float found = 0;
        for (int j = 0; j < VL; j++) found = most[j] > found ? most[j] : found;
        for (; i < k; i++) {
          const float size = from[i] < 0 ? -from[i] : from[i];
          found = size > found ? size : found;
        }
        panel->scales[start + row] = found / 127.0f;
        inverse[row] = found > 0 ? 127.0f / found : 0.0f;
      }
    const int chunk = start / (LANES * MAX_CHUNK);
    const int chunk_first = chunk * LANES * MAX_CHUNK;
    const int width = least(LANES * MAX_CHUNK, up(panel->t - chunk_first, LANES));
    const int cells = (k * (panel->precision == FLOAT32 ? 4 : panel->precision == BFLOAT16 ? 2 : 1) + 3) / 4;
    if (panel->form == CELLS && panel->t <= FEW) {
      for (int row = 0; row < rows; row++)
        for (int step = 0; step < steps; step++)
          narrow(x + (start + row) * x_stride, step * columns, k, panel->precision, inverse[row],
                 panel->data + ((size_t)(start + row) * steps + step) * 64);
      continue;
    }
    for (int step = 0; step < steps; step++) {
      uint8_t* to = panel->form == TILES ? panel->data + ((size_t)(start / LANES) * steps + step) * sizeof tile : tile;
      for (int row = 0; row < rows; row++)
        narrow(x + (start + row) * x_stride, step * columns, k, panel->precision, inverse[row], to + row * 64);
      if (rows < LANES) memset(to + rows * 64, 0, (LANES - rows) * 64);
      if (panel->form == TILES) continue;
      uint32_t* at = (uint32_t*)panel->data + (size_t)chunk_first * up(cells, 16) + (size_t)step * 16 * width + (start - chunk_first);
      transpose((const uint32_t*)tile, 16, at, width);
    }
  }
}

// Products over cells -----------------------------------------------------------------------------------------------

#if defined(SW_AVX512)
// `add` multiplies a vector of tokens by one cell, `each` a vector of cells each by its own.
struct Float32Cells {
  typedef __m512 Sum;
  static Sum zero() { return _mm512_setzero_ps(); }
  static Sum read(const uint32_t* from) { return _mm512_load_ps(from); }
  static void write(uint32_t* to, Sum sum) { _mm512_store_ps(to, sum); }
  typedef __m512 Cell;
  static Cell cell(const uint32_t* from) { return _mm512_set1_ps(*(const float*)from); }
  static Sum add(Sum sum, const uint32_t* tokens, Cell cell) { return _mm512_fmadd_ps(_mm512_load_ps(tokens), cell, sum); }
  static Sum each(Sum sum, __m512i x, __m512i cells) { return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(cells), sum); }
  static Sum plus(Sum a, Sum b) { return _mm512_add_ps(a, b); }
};
#else
struct Float32Cells {
  struct Sum { V v[LANES / VL]; };
  static Sum zero() { return Sum{}; }
  static Sum read(const uint32_t* from) { Sum s; memcpy(&s, from, sizeof s); return s; }
  static void write(uint32_t* to, const Sum& s) { memcpy(to, &s, sizeof s); }
  typedef V Cell;
  static Cell cell(const uint32_t* from) { float value; memcpy(&value, from, 4); return all(value); }
  static Sum add(Sum s, const uint32_t* tokens, Cell cell) {
    for (int i = 0; i < LANES / VL; i++) s.v[i] += load((const float*)tokens + i * VL) * cell;
    return s;
  }
  static Sum plus(Sum a, const Sum& b) {
    for (int i = 0; i < LANES / VL; i++) a.v[i] += b.v[i];
    return a;
  }
};
#endif

#if defined(SW_VNNI)
struct Int8Cells {
  typedef __m512i Sum;
  static Sum zero() { return _mm512_setzero_si512(); }
  static Sum read(const uint32_t* from) { return _mm512_load_si512(from); }
  static void write(uint32_t* to, Sum sum) { _mm512_store_si512(to, sum); }
  typedef __m512i Cell;
  static Cell cell(const uint32_t* from) { return _mm512_set1_epi32((int)*from); }
  static Sum add(Sum sum, const uint32_t* tokens, Cell cell) { return each(sum, _mm512_load_si512(tokens), cell); }
  static Sum each(Sum sum, __m512i x, __m512i cells) { return _mm512_dpbusd_epi32(sum, x, cells); }
  static Sum plus(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
};
#endif

#if defined(SW_BF16)
struct BFloat16Cells : Float32Cells {
  typedef __m512i Cell;
  static Cell cell(const uint32_t* from) { return _mm512_set1_epi32((int)*from); }
  static Sum add(Sum sum, const uint32_t* tokens, Cell cell) { return each(sum, _mm512_load_si512(tokens), cell); }
  static Sum each(Sum sum, __m512i x, __m512i cells) { return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)cells); }
};
#endif

// One row: `count` cells times M vectors of tokens, added to `sums`. Few vectors take several sums in turns, so that
// no addition waits for the one before.
template <class Op, int M>
inline void row_of_cells(const uint8_t* columns, const uint32_t* cells, int count, const uint32_t* panel, uint32_t* sums, bool first) {
  constexpr int TURNS = M >= 4 ? 1 : M >= 2 ? 2 : 4;
  typename Op::Sum s[TURNS][M];
  for (int m = 0; m < M; m++) s[0][m] = first ? Op::zero() : Op::read(sums + m * LANES);
  for (int turn = 1; turn < TURNS; turn++)
    for (int m = 0; m < M; m++) s[turn][m] = Op::zero();
  int i = 0;
  for (; i + TURNS <= count; i += TURNS)
#pragma GCC unroll 4
    for (int turn = 0; turn < TURNS; turn++) {
      const uint32_t* tokens = panel + (size_t)columns[i + turn] * (M * LANES);
      const typename Op::Cell cell = Op::cell(cells + i + turn);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) s[turn][m] = Op::add(s[turn][m], tokens + m * LANES, cell);
    }
  for (; i < count; i++) {
    const uint32_t* tokens = panel + (size_t)columns[i] * (M * LANES);
    const typename Op::Cell cell = Op::cell(cells + i);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) s[0][m] = Op::add(s[0][m], tokens + m * LANES, cell);
  }
  for (int m = 0; m < M; m++) {
    typename Op::Sum total = s[0][m];
    for (int turn = 1; turn < TURNS; turn++) total = Op::plus(total, s[turn][m]);
    Op::write(sums + m * LANES, total);
  }
}

template <class Op, int M>
void cells_of_chunk(const Matrix& w, const uint32_t* panel, int task, uint32_t* sums) {
  const int rows = least(ROW_BLOCK, w.n - task * ROW_BLOCK);
  for (int block = 0; block < w.column_blocks; block++) {
    const size_t pair = (size_t)task * w.column_blocks + block;
    const uint8_t* counts = w.counts + pair * ROW_BLOCK;
    size_t at = w.starts[pair];
    const uint32_t* inputs = panel + (size_t)block * w.block * (M * LANES);
    for (int row = 0; row < rows; row++) {
      row_of_cells<Op, M>(w.columns + at, w.cells + at, counts[row], inputs, sums + row * (M * LANES), block == 0);
      at += counts[row];
    }
  }
}

template <class Op>
void cells_of(const Matrix& w, const uint32_t* panel, int vectors, int task, uint32_t* sums) {
  switch (vectors) {
    case 1: return cells_of_chunk<Op, 1>(w, panel, task, sums);
    case 2: return cells_of_chunk<Op, 2>(w, panel, task, sums);
    case 3: return cells_of_chunk<Op, 3>(w, panel, task, sums);
    case 4: return cells_of_chunk<Op, 4>(w, panel, task, sums);
    case 5: return cells_of_chunk<Op, 5>(w, panel, task, sums);
    case 6: return cells_of_chunk<Op, 6>(w, panel, task, sums);
    case 7: return cells_of_chunk<Op, 7>(w, panel, task, sums);
    default: return cells_of_chunk<Op, 8>(w, panel, task, sums);
  }
}

// Sixteen int8 sums of one token as numbers: (sum - 128 sum of the row) scale of the row, scale of the token.
inline void scaled(const Matrix& w, int n0, int columns, const int32_t* sums, float token_scale, float* to) {
#if defined(SW_AVX512)
  const __mmask16 mask = columns >= LANES ? 0xffff : (__mmask16)((1u << columns) - 1);
  const __m512i shifted = _mm512_sub_epi32(_mm512_loadu_si512(sums), _mm512_maskz_loadu_epi32(mask, w.sums + n0));
  const __m512 scales = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, w.scales + n0), _mm512_set1_ps(token_scale));
  _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_cvtepi32_ps(shifted), scales));
#else
  for (int i = 0; i < columns; i++) to[i] = (float)(sums[i] - w.sums[n0 + i]) * w.scales[n0 + i] * token_scale;
  for (int i = columns; i < LANES; i++) to[i] = 0;
#endif
}

// One token: what it costs is reading the weight once. Each row has a vector of sums; sixteen cells at a time take
// their activations by their columns.
#if defined(SW_AVX512)
template <class Op>
void cells_of_token(const Matrix& w, const uint32_t* x, int task, uint32_t* found) {
  const int rows = least(ROW_BLOCK, w.n - task * ROW_BLOCK);
  typename Op::Sum sums[ROW_BLOCK];
  for (int row = 0; row < ROW_BLOCK; row++) sums[row] = Op::zero();
  for (int block = 0; block < w.column_blocks; block++) {
    const size_t pair = (size_t)task * w.column_blocks + block;
    const uint8_t* counts = w.counts + pair * ROW_BLOCK;
    const uint8_t* columns = w.columns + w.starts[pair];
    const uint32_t* cells = w.cells + w.starts[pair];
    const uint32_t* inputs = x + (size_t)block * w.block;
    for (int row = 0; row < rows; row++) {
      for (int left = counts[row]; left > 0; left -= 16) {
        const int count = least(16, left);
        const __mmask16 mask = (__mmask16)((1u << count) - 1);
        const __m512i at = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, columns));
        const __m512i taken = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, at, inputs, 4);
        sums[row] = Op::each(sums[row], taken, _mm512_maskz_loadu_epi32(mask, cells));
        columns += count;
        cells += count;
      }
    }
  }
  alignas(64) uint32_t turned[LANES * LANES];
  for (int row = 0; row < rows; row += LANES) {
    transpose((const uint32_t*)(sums + row), LANES, turned, LANES);
    typename Op::Sum total = Op::read(turned);
    for (int i = 1; i < LANES; i++) total = Op::plus(total, Op::read(turned + i * LANES));
    Op::write(found + row, total);
  }
}
#else
void cells_of_token(const Matrix& w, const float* x, int task, float* found) {
  const int rows = least(ROW_BLOCK, w.n - task * ROW_BLOCK);
  memset(found, 0, ROW_BLOCK * sizeof(float));
  for (int block = 0; block < w.column_blocks; block++) {
    const size_t pair = (size_t)task * w.column_blocks + block;
    const uint8_t* counts = w.counts + pair * ROW_BLOCK;
    size_t at = w.starts[pair];
    const float* inputs = x + (size_t)block * w.block;
    for (int row = 0; row < rows; row++) {
      float sums[4] = {};
      int i = 0;
      for (; i + 4 <= counts[row]; i += 4)
        for (int j = 0; j < 4; j++) sums[j] += inputs[w.columns[at + i + j]] * ((const float*)w.cells)[at + i + j];
      for (; i < counts[row]; i++) sums[0] += inputs[w.columns[at + i]] * ((const float*)w.cells)[at + i];
      found[row] += (sums[0] + sums[1]) + (sums[2] + sums[3]);
      at += counts[row];
    }
  }
}
#endif

void product_of_few(const Matrix& w, const Panel& panel, const Finish& f, int task, int cells) {
  const int rows = least(ROW_BLOCK, w.n - task * ROW_BLOCK);
  alignas(64) uint32_t sums[ROW_BLOCK];
  alignas(64) float numbers[LANES];
  for (int token = 0; token < panel.t; token++) {
    const uint32_t* x = (const uint32_t*)panel.data + (size_t)token * cells;
#if defined(SW_AVX512)
    if (w.precision == FLOAT32) cells_of_token<Float32Cells>(w, x, task, sums);
#else
    cells_of_token(w, (const float*)x, task, (float*)sums);
#endif
#if defined(SW_BF16)
    if (w.precision == BFLOAT16) cells_of_token<BFloat16Cells>(w, x, task, sums);
#endif
#if defined(SW_VNNI)
    if (w.precision == INT8) cells_of_token<Int8Cells>(w, x, task, sums);
#endif
    for (int row = 0; row < rows; row += LANES) {
      const int columns = least(LANES, rows - row), n0 = task * ROW_BLOCK + row;
      if (w.precision == INT8) {
        scaled(w, n0, columns, (const int32_t*)sums + row, panel.scales[token], numbers);
        finish_row(f, token, n0, columns, numbers);
      } else {
        finish_row(f, token, n0, columns, (const float*)sums + row);
      }
    }
  }
}

void product_of_cells(const Matrix& w, const Panel& panel, const Finish& f, int task, void* scratch) {
  const int rows = least(ROW_BLOCK, w.n - task * ROW_BLOCK);
  const int per_cell = w.precision == FLOAT32 ? 1 : w.precision == BFLOAT16 ? 2 : 4;
  const int cells = up((w.k + per_cell - 1) / per_cell, 16);
  if (panel.t <= FEW) return product_of_few(w, panel, f, task, cells);
  uint32_t* sums = (uint32_t*)scratch;
  for (int start = 0; start < panel.t; start += LANES * MAX_CHUNK) {
    const int vectors = least(MAX_CHUNK, (panel.t - start + LANES - 1) / LANES);
    const uint32_t* inputs = (const uint32_t*)panel.data + (size_t)start * cells;
    if (w.precision == FLOAT32) cells_of<Float32Cells>(w, inputs, vectors, task, sums);
#if defined(SW_BF16)
    if (w.precision == BFLOAT16) cells_of<BFloat16Cells>(w, inputs, vectors, task, sums);
#endif
#if defined(SW_VNNI)
    if (w.precision == INT8) cells_of<Int8Cells>(w, inputs, vectors, task, sums);
#endif
    alignas(64) uint32_t turned[LANES * LANES];
    alignas(64) float numbers[LANES];
    for (int row = 0; row < rows; row += LANES) {
      const int columns = least(LANES, rows - row), n0 = task * ROW_BLOCK + row;
      for (int m = 0; m < vectors; m++) {
        // Rows beyond the weight's last are whatever the scratch held: finish_row does not store them.
        transpose(sums + (size_t)row * vectors * LANES + m * LANES, (int64_t)vectors * LANES, turned, LANES);
        const int count = least(LANES, panel.t - start - m * LANES);
        for (int i = 0; i < count; i++) {
          const int token = start + m * LANES + i;
          if (w.precision == INT8) {
            scaled(w, n0, columns, (const int32_t*)turned + i * LANES, panel.scales[token], numbers);
            finish_row(f, token, n0, columns, numbers);
          } else {
            finish_row(f, token, n0, columns, (const float*)turned + i * LANES);
          }
        }
      }
    }
  }
}

// Products over tiles -----------------------------------------------------------------------------------------------

#if defined(SW_VNNI)
// The tiles of row tile `r` as [column tile][16 groups of four columns][16 rows][4 columns].
inline void expand(const Matrix& w, int r, int8_t* to) {
  const int tiles = (w.k + TILE_K - 1) / TILE_K;
  const uint64_t* masks = w.masks + (size_t)r * tiles * 16;
  const int8_t* values = w.values + w.starts[r];
  for (int i = 0; i < tiles * 16; i++) {
    _mm512_store_si512(to + (size_t)i * 64, _mm512_maskz_expand_epi8(masks[i], _mm512_loadu_si512(values)));
    values += __builtin_popcountll(masks[i]);
  }
}

inline void finish_tile(const Matrix& w, const Panel& panel, const Finish& f, int token0, int n0, const int32_t* sums) {
  const int count = least(LANES, panel.t - token0), columns = least(LANES, w.n - n0);
  alignas(64) float numbers[LANES];
  for (int i = 0; i < count; i++) {
    scaled(w, n0, columns, sums + i * LANES, panel.scales[token0 + i], numbers);
    finish_row(f, token0 + i, n0, columns, numbers);
  }
}

#if defined(SW_AMX)
template <int A, int B>  // tiles of tokens, tiles of outputs
inline void tile_sums(const uint8_t* tokens, const int8_t* weights, int steps, int32_t* sums) {
  _tile_zero(0);
  if (B > 1) _tile_zero(1);
  if (A > 1) _tile_zero(2);
  if (A > 1 && B > 1) _tile_zero(3);
  const uint8_t* next = tokens + (size_t)steps * 1024;
  const int8_t* other = weights + (size_t)steps * 1024;
  for (int step = 0; step < steps; step++) {
    _tile_loadd(4, tokens + (size_t)step * 1024, 64);
    _tile_loadd(6, weights + (size_t)step * 1024, 64);
    _tile_dpbusd(0, 4, 6);
    if (B > 1) {
      _tile_loadd(7, other + (size_t)step * 1024, 64);
      _tile_dpbusd(1, 4, 7);
    }
    if (A > 1) {
      _tile_loadd(5, next + (size_t)step * 1024, 64);
      _tile_dpbusd(2, 5, 6);
      if (B > 1) _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, sums, 64);
  if (B > 1) _tile_stored(1, sums + 256, 64);
  if (A > 1) _tile_stored(2, sums + 512, 64);
  if (A > 1 && B > 1) _tile_stored(3, sums + 768, 64);
}
#else
template <int A, int B>
inline void tile_sums(const uint8_t* tokens, const int8_t* weights, int steps, int32_t* sums) {
  for (int a = 0; a < A; a++)
    for (int half = 0; half < 2; half++) {
      __m512i s[8][B];
      for (int i = 0; i < 8; i++)
        for (int b = 0; b < B; b++) s[i][b] = _mm512_setzero_si512();
      for (int step = 0; step < steps; step++) {
        const uint8_t* from = tokens + ((size_t)a * steps + step) * 1024 + half * 512;
        const int8_t* with = weights + (size_t)step * 1024;
        for (int group = 0; group < 16; group++) {
          __m512i v[B];
          for (int b = 0; b < B; b++) v[b] = _mm512_load_si512(with + (size_t)b * steps * 1024 + group * 64);
#pragma GCC unroll 8
          for (int i = 0; i < 8; i++) {
            const __m512i token = _mm512_set1_epi32(*(const int32_t*)(from + i * 64 + group * 4));
            for (int b = 0; b < B; b++) s[i][b] = _mm512_dpbusd_epi32(s[i][b], token, v[b]);
          }
        }
      }
      for (int i = 0; i < 8; i++)
        for (int b = 0; b < B; b++) _mm512_store_si512(sums + (a * 2 + b) * 256 + (half * 8 + i) * 16, s[i][b]);
    }
}
#endif

void product_of_tiles(const Matrix& w, const Panel& panel, const Finish& f, int task, void* scratch) {
  const int steps = (w.k + TILE_K - 1) / TILE_K, row_tiles = (w.n + LANES - 1) / LANES;
  const int first = task * (ROW_BLOCK / LANES), two = first + 1 < row_tiles;
  int32_t* sums = (int32_t*)scratch;
  int8_t* weights = (int8_t*)scratch + 4096;
  expand(w, first, weights);
  if (two) expand(w, first + 1, weights + (size_t)steps * 1024);
  const int token_tiles = (panel.t + LANES - 1) / LANES;
  for (int tile = 0; tile < token_tiles; tile += 2) {
    const uint8_t* tokens = panel.data + (size_t)tile * steps * 1024;
    const bool pair = tile + 1 < token_tiles;
    if (pair && two) tile_sums<2, 2>(tokens, weights, steps, sums);
    else if (pair) tile_sums<2, 1>(tokens, weights, steps, sums);
    else if (two) tile_sums<1, 2>(tokens, weights, steps, sums);
    else tile_sums<1, 1>(tokens, weights, steps, sums);
    for (int a = 0; a <= (int)pair; a++)
      for (int b = 0; b <= (int)two; b++)
        finish_tile(w, panel, f, (tile + a) * LANES, (first + b) * LANES, sums + (a * 2 + b) * 256);
  }
}
#endif

void product(const Matrix* w, const Panel* panel, const Finish* f, int task, void* scratch) {
#if defined(SW_VNNI)
  if (w->form == TILES) return product_of_tiles(*w, *panel, *f, task, scratch);
#endif
  product_of_cells(*w, *panel, *f, task, scratch);
}

// The rest of a layer -----------------------------------------------------------------------------------------------

void layer_norm(float* x, int64_t stride, int width, int first, int last, const float* weight, const float* bias, float epsilon) {
  for (int token = first; token < last; token++) {
    float* row = x + token * stride;
    V total{};
    int i = 0;
    for (; i + VL <= width; i += VL) total += load(row + i);
    float mean = sum_of(total);
    for (; i < width; i++) mean += row[i];
    mean /= (float)width;
    V squares{};
    for (i = 0; i + VL <= width; i += VL) {
      const V difference = load(row + i) - mean;
      squares += difference * difference;
    }
    float variance = sum_of(squares);
    for (; i < width; i++) variance += (row[i] - mean) * (row[i] - mean);
    const float inverse = 1.0f / __builtin_sqrtf(variance / (float)width + epsilon);
    for (i = 0; i + VL <= width; i += VL)
      store(row + i, (load(row + i) - mean) * inverse * load(weight + i) + load(bias + i));
    for (; i < width; i++) row[i] = (row[i] - mean) * inverse * weight[i] + bias[i];
  }
}

// VL rows of `columns` <= TURN numbers as vectors down the rows, zeros beyond; and back.
constexpr int TURN = 8;
inline void turn_in(const float* from, int64_t stride, int rows, int columns, V* to) {
  alignas(64) float block[TURN][VL] = {};
  for (int row = 0; row < rows; row++)
    for (int column = 0; column < columns; column++) block[column][row] = from[row * stride + column];
  memcpy(to, block, sizeof block);
}
inline void turn_out(const V* from, int rows, int columns, float* to, int64_t stride) {
  alignas(64) float block[TURN][VL];
  memcpy(block, from, sizeof block);
  for (int row = 0; row < rows; row++)
    for (int column = 0; column < columns; column++) to[row * stride + column] = block[column][row];
}

// A vector holds VL queries, so that softmax runs down its lanes: scores[s] = sum_d k[s][d] q[d], out[d] = sum_s p[s] v[s][d].
// scratch: VL (head + length) floats. bias [length queries][length keys], where there is one, is added to the scores.
void attention(const float* q, const float* k, const float* v, int64_t stride, float* out, int64_t out_stride, int length,
               int first, int last, int head, float scale, const float* bias, int64_t bias_stride, float* scratch) {
  V* queries = (V*)scratch;
  V* scores = queries + head;
  constexpr int STEP = TURN;
  for (int start = first; start < last; start += VL) {
    const int count = least(VL, last - start);
    for (int d = 0; d < head; d += TURN) {
      V columns[TURN];
      turn_in(q + start * stride + d, stride, count, least(TURN, head - d), columns);
      for (int j = 0; j < TURN && d + j < head; j++) queries[d + j] = columns[j] * scale;
    }
    V most = all(-3e38f);
    int s = 0;
    for (; s + STEP <= length; s += STEP) {
      V sums[STEP] = {};
      const float* keys = k + s * stride;
      for (int d = 0; d < head; d++)
#pragma GCC unroll 8
        for (int j = 0; j < STEP; j++) sums[j] += keys[j * stride + d] * queries[d];
      for (int j = 0; j < STEP; j++) scores[s + j] = sums[j];
    }
    for (; s < length; s++) {
      V sum{};
      for (int d = 0; d < head; d++) sum += k[s * stride + d] * queries[d];
      scores[s] = sum;
    }
    if (bias)
      for (s = 0; s < length; s++) {
        V column{};
        for (int i = 0; i < count; i++) column[i] = bias[(start + i) * bias_stride + s];
        scores[s] += column;
      }
    for (s = 0; s < length; s++) most = larger(most, scores[s]);
    V total{};
    for (s = 0; s < length; s++) {
      scores[s] = exponential(scores[s] - most);
      total += scores[s];
    }
    const V inverse = 1.0f / total;
    for (int d = 0; d < head; d += STEP) {
      const int columns = least(STEP, head - d);
      V sums[STEP] = {};
      if (columns == STEP)
        for (s = 0; s < length; s++) {
          const float* values = v + s * stride + d;
#pragma GCC unroll 8
          for (int j = 0; j < STEP; j++) sums[j] += values[j] * scores[s];
        }
      else
        for (s = 0; s < length; s++)
          for (int j = 0; j < columns; j++) sums[j] += v[s * stride + d + j] * scores[s];
      for (int j = 0; j < columns; j++) sums[j] *= inverse;
      turn_out(sums, count, columns, out + start * out_stride + d, out_stride);
    }
  }
}

#if defined(SW_AMX)
// Attention by tiles of bfloat16, sums and softmax in float32; the arguments of attention(). scratch has
// attention_bytes(head, length): keys as [16 keys][32 columns] turned, values as pairs of keys, both tile after tile.
void attention_tiles(const float* q, const float* k, const float* v, int64_t stride, float* out, int64_t out_stride, int length,
                     int first, int last, int head, float scale, const float* bias, int64_t bias_stride, float* scratch) {
  const int key_tiles = (length + 15) / 16, column_steps = (head + 31) / 32, key_steps = (length + 31) / 32, column_tiles = (head + 15) / 16;
  const int64_t width = (int64_t)key_steps * 32;
  uint8_t* keys = (uint8_t*)scratch;
  uint8_t* values = keys + (size_t)key_tiles * column_steps * 1024;
  uint8_t* queries = values + (size_t)key_steps * column_tiles * 1024;
  uint8_t* weights = queries + (size_t)column_steps * 1024;
  float* scores = (float*)(weights + (size_t)key_steps * 1024);
  float* sums = scores + 16 * width;
  const auto part = [](const float* from, int left) { return left >= 16 ? _mm512_loadu_ps(from) : left <= 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps((__mmask16)((1u << left) - 1), from); };
  alignas(64) uint32_t tile[256];
  for (int t = 0; t < key_tiles; t++)
    for (int step = 0; step < column_steps; step++) {
      for (int row = 0; row < 16; row++) {
        const float* from = k + (t * 16 + row) * stride + step * 32;
        const int left = t * 16 + row < length ? head - step * 32 : 0;
        _mm512_store_si512(tile + row * 16, (__m512i)_mm512_cvtne2ps_pbh(part(from + 16, left - 16), part(from, left)));
      }
      transpose(tile, 16, (uint32_t*)(keys + ((size_t)t * column_steps + step) * 1024), 16);
    }
  const auto halves = [](__m512 x) { return _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(x)); };
  for (int step = 0; step < key_steps; step++)
    for (int t = 0; t < column_tiles; t++)
      for (int row = 0; row < 16; row++) {
        const int key = step * 32 + row * 2, left = head - t * 16;
        const float* from = v + key * stride + t * 16;
        const __m512i even = halves(part(from, key < length ? left : 0)), odd = halves(part(from + stride, key + 1 < length ? left : 0));
        _mm512_store_si512(values + ((size_t)step * column_tiles + t) * 1024 + row * 64, _mm512_or_si512(even, _mm512_slli_epi32(odd, 16)));
      }
  const __m512 factor = _mm512_set1_ps(scale);
  for (int start = first; start < last; start += 16) {
    const int count = least(16, last - start);
    for (int step = 0; step < column_steps; step++)
      for (int row = 0; row < 16; row++) {
        const float* from = q + (start + row) * stride + step * 32;
        const int left = row < count ? head - step * 32 : 0;
        const __m512 low = _mm512_mul_ps(part(from, left), factor), high = _mm512_mul_ps(part(from + 16, left - 16), factor);
        _mm512_store_si512(queries + step * 1024 + row * 64, (__m512i)_mm512_cvtne2ps_pbh(high, low));
      }
    for (int t = 0; t < key_tiles; t++) {
      _tile_zero(0);
      for (int step = 0; step < column_steps; step++) {
        _tile_loadd(4, queries + step * 1024, 64);
        _tile_loadd(6, keys + ((size_t)t * column_steps + step) * 1024, 64);
        _tile_dpbf16ps(0, 4, 6);
      }
      _tile_stored(0, scores + t * 16, width * 4);
    }
    alignas(64) float inverse[16];
    for (int row = 0; row < count; row++) {
      float* at = scores + row * width;
      const float* add = bias ? bias + (start + row) * bias_stride : nullptr;
      V most = all(-3e38f);
      for (int s = 0; s < width; s += 16) {
        const int left = length - s;
        const __mmask16 mask = left >= 16 ? 0xffff : left <= 0 ? 0 : (__mmask16)((1u << left) - 1);
        V value = _mm512_mask_loadu_ps(all(-3e38f), mask, at + s);
        if (add) value += _mm512_maskz_loadu_ps(mask, add + s);
        store(at + s, value);
        most = larger(most, value);
      }
      const V top = all(_mm512_reduce_max_ps(most));
      V total{};
      for (int s = 0; s < width; s += 32) {
        const V one = exponential(load(at + s) - top), other = exponential(load(at + s + 16) - top);
        const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(other, one);
        _mm512_store_si512(weights + (size_t)(s / 32) * 1024 + row * 64, rounded);
        total += one + other;
      }
      inverse[row] = 1.0f / _mm512_reduce_add_ps(total);
    }
    for (int t = 0; t < column_tiles; t++) {
      _tile_zero(0);
      for (int step = 0; step < key_steps; step++) {
        _tile_loadd(4, weights + (size_t)step * 1024, 64);
        _tile_loadd(6, values + ((size_t)step * column_tiles + t) * 1024, 64);
        _tile_dpbf16ps(0, 4, 6);
      }
      _tile_stored(0, sums, 64);
      const int left = head - t * 16;
      const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
      for (int row = 0; row < count; row++)
        _mm512_mask_storeu_ps(out + (start + row) * out_stride + t * 16, mask, _mm512_mul_ps(_mm512_load_ps(sums + row * 16), _mm512_set1_ps(inverse[row])));
    }
  }
}
#endif

}  // namespace
