/* Declares the body of every row of kernels.inc with its kernel's type, so that a body cannot drift from the contract. */
#ifndef TML_KERNELS_INTERNAL_H
#define TML_KERNELS_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tml/kernels.h"

#define TML_KERNEL(op, dtype, isa) extern __typeof__(tml_##op##_##dtype) tml_##op##_##dtype##_##isa;
#include "kernels.inc"
#undef TML_KERNEL

/* Where tap `tap` of the window of output `out` reads along one axis; outside of the input if < 0 or >= its size. */
static inline int32_t tml_tap_position(uint32_t out, uint32_t stride, uint32_t before, uint32_t tap, uint32_t dilation) {
  return (int32_t)(out * stride + tap * dilation) - (int32_t)before;
}

static inline bool tml_is_inside(int32_t position, uint32_t size) { return (uint32_t)position < size; }

#endif
