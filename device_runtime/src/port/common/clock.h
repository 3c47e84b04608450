/* A counter of 32 bits as a clock of 64. */
#ifndef TML_PORT_CLOCK_H
#define TML_PORT_CLOCK_H

#include <stdint.h>

typedef struct {
  uint64_t ticks; /* at the last look */
} tml_clock_t;

/* `counter` counts up and starts over after UINT32_MAX. Looked at less than once a turn, whole turns are lost, but the time between
 * two looks within one turn is right, wherever the turn ends. */
static inline uint64_t tml_clock_ticks(tml_clock_t *clock, uint32_t counter) {
  clock->ticks += (uint32_t)(counter - (uint32_t)clock->ticks);
  return clock->ticks;
}

#endif
