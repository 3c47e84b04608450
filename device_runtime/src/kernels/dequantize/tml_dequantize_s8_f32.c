/* DEQUANTIZE: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_dequantize_s8_f32(uint32_t count, const tml_scale_t *quant, const int8_t *in, float *out) {
  TML_ASSERT(quant->scale > 0);
  tml_dequantize_s8_f32_ref(count, quant, in, out);
}
