// AMX with int8 tiles, beside AVX-512 with VNNI and bfloat16 dot products (Sapphire Rapids and later).
#include <sys/syscall.h>
#include <unistd.h>
#define VL 16
#define SW_AVX512
#define SW_VNNI
#define SW_BF16
#define SW_AMX
#include "kernels.inl"

namespace {

// Linux lets a process use the tiles only once it has asked; each thread then loads the tiles' shapes.
bool prepare() {
  constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  if (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)) return false;
  struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } shapes = {};
  shapes.palette = 1;
  for (int tile = 0; tile < 8; tile++) {
    shapes.bytes[tile] = 64;
    shapes.rows[tile] = 16;
  }
  __asm__ volatile("" ::"r"(&shapes) : "memory");  // GCC 12 takes the instruction to read 8 bytes alone
  _tile_loadconfig(&shapes);
  return true;
}

}  // namespace

const Kernels KERNELS_AMX = {"amx", prepare, true, true, true, pack, product, layer_norm, attention, attention_tiles};
