/* y = scale * (x - zero_point). TFLite Micro multiplies in binary64 and rounds once: so does this product of two exact numbers. */
#include "../kernels_internal.h"

void tml_dequantize_s8_f32_ref(uint32_t count, const tml_scale_t *quant, const int8_t *in, float *out) {
  for (uint32_t i = 0; i < count; i++) {
    out[i] = quant->scale * (float)(in[i] - quant->zero_point);
  }
}
