/* Rounding, in one place: TFLite Micro's double rounding, without a 64-bit division and without undefined overflow.
 *
 *   requantize(x, multiplier, shift) = x * multiplier * 2^(shift - 31)
 *
 * shift > 0: x * 2^shift, wrapping at 32 bits; then the product's high half, halves rounded up;
 * shift < 0: then divided by 2^-shift, halves away from zero.
 *
 * quant.py's requantize() is the twin; a property test compares them. Right shifts of negative numbers are arithmetic
 * (gcc and clang define them so; the _Static_assert below proves it).
 */
#ifndef TML_REQUANT_H
#define TML_REQUANT_H

#include <stdint.h>

#include "tml/assert.h"

#ifdef __cplusplus
extern "C" {
#else
_Static_assert((-1 >> 1) == -1, "right shifts of negative numbers must be arithmetic");
_Static_assert((int32_t)UINT32_MAX == -1, "conversion to a signed type must wrap");
#endif

/* round(a * b / 2^31), halves up. Not both INT32_MIN: the product of -1 and -1 does not fit. */
static inline int32_t tml_multiply_high(int32_t a, int32_t b) {
  TML_ASSERT(a != INT32_MIN || b != INT32_MIN);
  return (int32_t)(((int64_t)a * b + (INT64_C(1) << 30)) >> 31);
}

/* x / 2^exponent to nearest, halves away from zero. exponent: 0 to 31. */
static inline int32_t tml_divide_by_pot(int32_t x, uint32_t exponent) {
  TML_ASSERT(exponent <= 31);
  const uint32_t mask = (UINT32_C(1) << exponent) - 1u;
  const uint32_t remainder = (uint32_t)x & mask;
  const uint32_t threshold = (mask >> 1) + (x < 0 ? 1u : 0u);
  return (x >> exponent) + (remainder > threshold ? 1 : 0);
}

/* x * 2^shift modulo 2^32. shift: 0 to 31. */
static inline int32_t tml_shift_left(int32_t x, uint32_t shift) {
  TML_ASSERT(shift <= 31);
  return (int32_t)((uint32_t)x << shift);
}

/* multiplier: Q31, 0 to 2^31 - 1. shift: -31 to 31, to the left if positive. */
static inline int32_t tml_requantize(int32_t x, int32_t multiplier, int32_t shift) {
  TML_ASSERT(multiplier >= 0 && shift >= -31 && shift <= 31);
  const uint32_t left = shift > 0 ? (uint32_t)shift : 0u;
  const uint32_t right = shift > 0 ? 0u : (uint32_t)-shift;
  return tml_divide_by_pot(tml_multiply_high(tml_shift_left(x, left), multiplier), right);
}

/* zero_point + x, limited to min..max, which are limits of int8; x may be any int32. */
static inline int8_t tml_to_s8(int32_t x, int32_t zero_point, int32_t min, int32_t max) {
  if (x < min - zero_point) {
    return (int8_t)min;
  }
  if (x > max - zero_point) {
    return (int8_t)max;
  }
  return (int8_t)(zero_point + x);
}

#ifdef __cplusplus
}
#endif
#endif
