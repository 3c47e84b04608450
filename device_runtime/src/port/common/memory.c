/* What a bare-metal port knows of its RAM. */
#include "memory.h"

#include "tml/port.h"

uint8_t *tml_port_arena(uint32_t *bytes) {
  *bytes = (uint32_t)(tml_arena_end - tml_arena_start);
  return tml_arena_start;
}

uint32_t tml_port_stack_high_water(void) {
  const volatile uint32_t *at = tml_stack_start;
  while (at < tml_stack_end && *at == TML_STACK_PAINT) {
    at++;
  }
  return (uint32_t)((uintptr_t)tml_stack_end - (uintptr_t)at);
}
