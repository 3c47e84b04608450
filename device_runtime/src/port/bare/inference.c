/* A model alone, without boot stage and protocol: for device classes that no board port exists for, and for counting.
 *
 * A debugger or an emulator writes inputs into the arena, starts at reset, stops at tml_inference_done, and reads outputs. */
#include <stddef.h>

#include "../common/memory.h"
#include "tml/model.h"
#include "tml_class.h"

#define WEIGHTS_PAYLOAD (TML_FLASH_ADDRESS + TML_WEIGHTS_PRIMARY + 0x200u)
#define WEIGHTS_BYTES (TML_WEIGHTS_BYTES - 0x200u)

_Noreturn void tml_main(void);
_Noreturn void tml_inference_done(tml_status_t status);

volatile int32_t tml_inference_status = INT32_MIN;

__attribute__((noinline)) _Noreturn void tml_inference_done(tml_status_t status) {
  tml_inference_status = status;
  for (;;) {
    __asm volatile("" ::: "memory");
  }
}

_Noreturn void tml_main(void) {
  const uint8_t *weights = (const uint8_t *)(uintptr_t)WEIGHTS_PAYLOAD;
  const tml_status_t status = tml_model_check(&tml_model, weights, WEIGHTS_BYTES);
  tml_inference_done(status == TML_OK ? tml_model.invoke(weights, tml_arena_start) : status);
}
