/* Places that the linker scripts (device_runtime/ld) fix. Only their addresses mean anything. */
#ifndef TML_PORT_MEMORY_H
#define TML_PORT_MEMORY_H

#include <stdint.h>

extern uint32_t tml_stack_start[], tml_stack_end[];             /* grows down from the end */
extern uint32_t tml_data_start[], tml_data_end[], tml_data_load[]; /* load: where the code image keeps .data */
extern uint32_t tml_bss_start[], tml_bss_end[];
extern uint8_t tml_arena_start[], tml_arena_end[];

#define TML_STACK_PAINT 0xA5A5A5A5u

/* Fill .data and .bss. Called by start-up code, which must not use either before. */
static inline __attribute__((always_inline)) void tml_memory_prepare(void) {
  const uint32_t *from = tml_data_load;
  for (uint32_t *to = tml_data_start; to < tml_data_end; to++) {
    *to = *from++;
  }
  for (uint32_t *to = tml_bss_start; to < tml_bss_end; to++) {
    *to = 0;
  }
}

/* Paint what of the stack is unused: all below `top`, the stack pointer. Inlined, so that it needs no frame itself. */
static inline __attribute__((always_inline)) void tml_memory_paint_stack(const uint32_t *top) {
  for (volatile uint32_t *at = tml_stack_start; at < top; at++) {
    *at = TML_STACK_PAINT;
  }
}

#endif
