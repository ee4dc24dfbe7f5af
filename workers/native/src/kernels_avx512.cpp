// AVX-512 without VNNI (Skylake): float32 cells.
#define VL 16
#define SW_AVX512
#include "kernels.inl"

namespace {
bool prepare() { return true; }
}  // namespace

const Kernels KERNELS_AVX512 = {"avx512", prepare, false, false, false, pack, product, layer_norm, attention, nullptr};
