/* RELU family and int8 QUANTIZE: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_requantize_s8(uint32_t count, const tml_requantize_quant_t *quant, const int8_t *in, int8_t *out) {
  TML_ASSERT(quant->activation_min >= INT8_MIN && quant->activation_min <= quant->activation_max);
  TML_ASSERT(quant->activation_max <= INT8_MAX);
  tml_requantize_s8_ref(count, quant, in, out);
}
