/* ADD: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_add_s8(const tml_broadcast_t *shape, const tml_add_quant_t *quant, const int8_t *in1, const int8_t *in2, int8_t *out) {
  TML_ASSERT(quant->shift1 <= 0 && quant->shift2 <= 0 && quant->shift_out <= 0);
  TML_ASSERT(quant->activation_min >= INT8_MIN && quant->activation_min <= quant->activation_max);
  TML_ASSERT(quant->activation_max <= INT8_MAX);
  tml_add_s8_ref(shape, quant, in1, in2, out);
}
