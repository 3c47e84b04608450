/* y = zero_point + round(x / scale), halves away from zero, saturated; not a number: zero_point */
#include "../kernels_internal.h"
#include "tml/requant.h"

void tml_quantize_f32_s8_ref(uint32_t count, const tml_scale_t *quant, const float *in, int8_t *out) {
  for (uint32_t i = 0; i < count; i++) {
    const float ratio = in[i] / quant->scale;
    int32_t rounded = 0;
    if (ratio >= 512.0f) { /* saturates with any zero point */
      rounded = 512;
    } else if (ratio <= -512.0f) {
      rounded = -512;
    } else if (ratio == ratio) { /* a number */
      rounded = (int32_t)ratio;
      const float fraction = ratio - (float)rounded; /* exact */
      rounded += fraction >= 0.5f ? 1 : fraction <= -0.5f ? -1 : 0;
    }
    out[i] = tml_to_s8(rounded, quant->zero_point, INT8_MIN, INT8_MAX);
  }
}
