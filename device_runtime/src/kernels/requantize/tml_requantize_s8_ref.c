/* y = clamp(output_zero_point + requantize(x - input_zero_point)) */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_requantize_s8_ref(uint32_t count, const tml_requantize_quant_t *quant, const int8_t *in, int8_t *out) {
  for (uint32_t i = 0; i < count; i++) {
    const int32_t scaled = tml_requantize(in[i] - quant->input_zero_point, quant->multiplier, quant->shift);
    out[i] = tml_to_s8(scaled, quant->output_zero_point, quant->activation_min, quant->activation_max);
  }
}
