/* QUANTIZE of floats: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_quantize_f32_s8(uint32_t count, const tml_scale_t *quant, const float *in, int8_t *out) {
  TML_ASSERT(quant->scale > 0);
  tml_quantize_f32_s8_ref(count, quant, in, out);
}
