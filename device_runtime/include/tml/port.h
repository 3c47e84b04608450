/* What a board gives to boot stage and firmware. One folder in src/port defines these functions. */
#ifndef TML_PORT_H
#define TML_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "tml/image.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of boot stage or firmware: what the port's start-up code calls once RAM and stack are as C needs them. Never returns. */
_Noreturn void tml_main(void);

/* The flash of this device, and its map. */
extern const tml_flash_t tml_port_flash;
const tml_flash_map_t *tml_port_flash_map(void);

/* Boot stage: leave for the checked code image in the primary slot. */
_Noreturn void tml_port_start(const tml_flash_map_t *map, const tml_image_t *code);
/* Boot stage: nothing can be started. Never returns: only new contents of the flash help. */
_Noreturn void tml_port_halt(const char *why);

/* Firmware: the line that SMP runs on. */
void tml_port_open(void);
bool tml_port_read_byte(uint8_t *byte); /* false: none has come */
void tml_port_write(const uint8_t *bytes, uint32_t count);
void tml_port_wait(void); /* until a byte may have come; uses no power or processor meanwhile */
/* Before a reset: take no more from the line, so that what comes is the next program's (where the board can keep it). */
void tml_port_stop_reading(void);
_Noreturn void tml_port_reset(void); /* back to the boot stage, after all was sent */

/* Payload of the weights image in the primary slot, in place, aligned to 16. */
const uint8_t *tml_port_weights(void);
/* RAM for the arena, aligned to 16; its size in *bytes. */
uint8_t *tml_port_arena(uint32_t *bytes);

uint64_t tml_port_ticks(void);    /* of a clock that counts up */
uint32_t tml_port_ticks_hz(void); /* 0: this board has none */
const char *tml_port_hardware_id(void);   /* NUL-terminated; empty: this board has none */
uint32_t tml_port_boots(void);            /* starts since power-on, this one included */
uint32_t tml_port_stack_high_water(void); /* bytes, since start */

#ifdef __cplusplus
}
#endif
#endif
