/* CONV_2D: checks the contract, then runs the body that is best on this CPU. */
#include "../kernels_internal.h"
#include "tml/assert.h"

void tml_conv2d_s8(const tml_window_t *window, const tml_quant_t *quant, tml_channels_t channels, const int8_t *filter,
                   const int8_t *in, int8_t *out) {
  TML_ASSERT(window->stride_h > 0 && window->stride_w > 0 && window->dilation_h > 0 && window->dilation_w > 0);
  TML_ASSERT(quant->activation_min >= INT8_MIN && quant->activation_min <= quant->activation_max);
  TML_ASSERT(quant->activation_max <= INT8_MAX);
  tml_conv2d_s8_ref(window, quant, channels, filter, in, out);
}
