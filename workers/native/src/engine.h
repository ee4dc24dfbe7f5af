// The C interface of the sparse CPU engine, and the records that its parts share.
//
// C++17 without the C++ runtime (no exceptions, no standard library that must be linked), so that any compiler builds
// it. Sizes are counts of elements unless a name says bytes. Matrices are row-major.
//
// Legend: n, k rows and columns of a weight; t tokens; a cell is 32 bits of a row of the weight: one float32 column,
// two bfloat16 columns or four int8 columns. The engine multiplies cells by vectors of LANES tokens.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define SW_API extern "C" __declspec(dllexport)
#else
#define SW_API extern "C" __attribute__((visibility("default")))
#endif

constexpr int LANES = 16;        // tokens of a vector, outputs of a tile
constexpr int TILE_K = 64;       // int8 columns of a tile
constexpr int ROW_BLOCK = 32;    // rows of a weight that one task computes
constexpr int MAX_CHUNK = 8;     // vectors of tokens that one task computes at a time
constexpr int FEW = 2;           // tokens up to which cells are multiplied one token after the other

enum Precision : int32_t { FLOAT32 = 0, BFLOAT16 = 1, INT8 = 2 };
enum Form : int32_t { CELLS = 0, TILES = 1 };
enum Activation : int32_t { NONE = 0, GELU = 1, GELU_TANH = 2, RELU = 3, TANH = 4 };

// A packed weight (n, k).
//
// CELLS: the cells that hold a nonzero, by blocks of rows, within them by blocks of `block` cell columns, within them
// by rows: `counts` of each, `columns` within the block (one byte each), `cells`. `starts` gives the first cell of each
// pair of blocks. What a product costs falls with the cells.
// TILES (int8): LANES rows x TILE_K columns a tile, as 16 masks of 64 bits and the nonzero values, expanded into a
// buffer while it is multiplied. What it costs in memory falls with the nonzeros, the arithmetic is dense.
struct Matrix {
  int32_t form, precision, n, k;
  int32_t block, column_blocks, row_blocks;
  int32_t* starts;     // CELLS: [row_blocks * column_blocks + 1]; TILES: [row tiles + 1], in values
  uint8_t* counts;     // CELLS: [row_blocks][column_blocks][ROW_BLOCK], cells of each row, at most 255
  uint8_t* columns;
  uint32_t* cells;
  uint64_t* masks;     // TILES: [row tiles][column tiles][16]; bit 4 r + c: the value of row r, column 4 m + c ...
  int8_t* values;
  float* scales;       // [n], INT8
  int32_t* sums;       // [n], INT8: 128 times the sum of a row, what activations shifted by 128 add
  size_t bytes;        // of all of it
};

// What happens to a sum: out = act(sum * scales + bias) + residual, in rows of out_stride.
struct Finish {
  const float* bias;       // [n] or null
  const float* residual;   // [t][residual_stride] or null
  float* out;
  int32_t activation;
  int64_t residual_stride, out_stride;
};

// Activations as a product reads them. CELLS: the cells of each token in turn where tokens are FEW, else chunks of
// vectors, [cell][LANES tokens]. TILES: LANES tokens x TILE_K columns a tile. `scales` [t]: of int8 activations.
struct Panel {
  int32_t form, precision, t, k;
  uint8_t* data;
  float* scales;
};

// What a set of instructions gives. Each of kernels_*.cpp compiles kernels.inl for one.
struct Kernels {
  const char* name;
  bool (*prepare)();  // once in each thread; false: the machine does not let us
  bool tiles, int8_cells, bfloat16_cells;
  // Tokens [first, last) of x (row-major, float32) into the panel; first and last are multiples of LANES or the end.
  void (*pack)(const Panel*, const float* x, int64_t x_stride, int first, int last);
  // Task `task` of task_count(): a block of rows of the weight, all tokens. `scratch` has scratch_bytes().
  void (*product)(const Matrix*, const Panel*, const Finish*, int task, void* scratch);
  void (*layer_norm)(float* x, int64_t stride, int width, int first, int last, const float* weight, const float* bias, float epsilon);
  // Attention of one head over one text: tokens [first, last) of its `length` queries; q, k, v, out point at its first
  // token, `bias` at what is added to the scores. scratch has attention_bytes(). `attention_fast` sums products of
  // bfloat16, and is null where the processor has no fast way to.
  void (*attention)(const float* q, const float* k, const float* v, int64_t stride, float* out, int64_t out_stride,
                    int length, int first, int last, int head, float scale, const float* bias, int64_t bias_stride, float* scratch);
  void (*attention_fast)(const float* q, const float* k, const float* v, int64_t stride, float* out, int64_t out_stride,
                         int length, int first, int last, int head, float scale, const float* bias, int64_t bias_stride, float* scratch);
};

int task_count(const Matrix*);
size_t scratch_bytes(const Matrix*, int tokens);
size_t panel_bytes(int form, int precision, int tokens, int k);
size_t attention_bytes(int head, int length);
const Kernels* chosen_kernels();
extern const Kernels KERNELS_GENERIC;
extern const Kernels KERNELS_AVX2;
extern const Kernels KERNELS_AVX512;
extern const Kernels KERNELS_VNNI;
extern const Kernels KERNELS_AMX;
extern const Kernels KERNELS_NEON;
