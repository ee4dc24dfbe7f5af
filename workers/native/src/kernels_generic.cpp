// What every compiler takes: vectors of four floats, which become SSE, NEON or plain code.
#define VL 4
#include "kernels.inl"

namespace {
bool prepare() { return true; }
}  // namespace

const Kernels KERNELS_GENERIC = {"generic", prepare, false, false, false, pack, product, layer_norm, attention, nullptr};
