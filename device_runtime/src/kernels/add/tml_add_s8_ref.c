/* y = output_zero_point + requantize_out(requantize1((x1 - zero_point1) * 2^20) + requantize2((x2 - zero_point2) * 2^20)) */
#include "../kernels_internal.h"
#include "tml/requant.h"

static int32_t scaled(int8_t x, int32_t zero_point, int32_t left_shift, int32_t multiplier, int32_t shift) {
  return tml_requantize(tml_shift_left(x - zero_point, (uint32_t)left_shift), multiplier, shift);
}

void tml_add_s8_ref(const tml_broadcast_t *shape, const tml_add_quant_t *quant, const int8_t *in1, const int8_t *in2,
                    int8_t *out) {
  const uint32_t *s1 = shape->stride1, *s2 = shape->stride2;
  for (uint32_t i = 0; i < shape->dims[0]; i++) {
    for (uint32_t j = 0; j < shape->dims[1]; j++) {
      for (uint32_t k = 0; k < shape->dims[2]; k++) {
        const int8_t *x1 = in1 + (size_t)i * s1[0] + (size_t)j * s1[1] + (size_t)k * s1[2];
        const int8_t *x2 = in2 + (size_t)i * s2[0] + (size_t)j * s2[1] + (size_t)k * s2[2];
        for (uint32_t l = 0; l < shape->dims[3]; l++, x1 += s1[3], x2 += s2[3]) {
          /* Each is below 2^28: its multiplier is at most one half. */
          const int32_t sum =
              scaled(*x1, quant->input1_zero_point, quant->left_shift, quant->multiplier1, quant->shift1) +
              scaled(*x2, quant->input2_zero_point, quant->left_shift, quant->multiplier2, quant->shift2);
          const int32_t y = tml_requantize(sum, quant->multiplier_out, quant->shift_out);
          *out++ = tml_to_s8(y, quant->output_zero_point, quant->activation_min, quant->activation_max);
        }
      }
    }
  }
}
