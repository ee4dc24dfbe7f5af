// AVX-512 with VNNI and VBMI2 (Ice Lake, Zen 4 and later).
#define VL 16
#define SW_AVX512
#define SW_VNNI
#include "kernels.inl"

namespace {
bool prepare() { return true; }
}  // namespace

const Kernels KERNELS_VNNI = {"avx512-vnni", prepare, true, true, false, pack, product, layer_norm, attention, nullptr};
