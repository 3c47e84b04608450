/* y[outer][inner] = output_zero_point + requantize(sum over the middle axis of (x - input_zero_point)) */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_mean_s8_ref(const tml_mean_shape_t *shape, const tml_mean_quant_t *quant, const int8_t *in, int8_t *out) {
  for (uint32_t outer = 0; outer < shape->outer; outer++, in += (size_t)shape->reduced * shape->inner) {
    for (uint32_t inner = 0; inner < shape->inner; inner++) {
      int32_t sum = 0;
      for (uint32_t i = 0; i < shape->reduced; i++) {
        sum += in[(size_t)i * shape->inner + inner] - quant->input_zero_point;
      }
      const int32_t scaled = tml_requantize(sum, quant->multiplier, quant->shift);
      *out++ = tml_to_s8(scaled, quant->output_zero_point, INT8_MIN, INT8_MAX);
    }
  }
}
