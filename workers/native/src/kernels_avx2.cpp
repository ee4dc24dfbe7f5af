// AVX2 with FMA: float32 cells.
#define VL 8
#include "kernels.inl"

namespace {
bool prepare() { return true; }
}  // namespace

const Kernels KERNELS_AVX2 = {"avx2", prepare, false, false, false, pack, product, layer_norm, attention, nullptr};
