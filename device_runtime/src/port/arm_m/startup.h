/* What the start-up code of ARM cores gives to the ports. */
#ifndef TML_ARM_STARTUP_H
#define TML_ARM_STARTUP_H

#include <stdint.h>

_Noreturn void tml_main(void);
_Noreturn void tml_on_reset(void);
_Noreturn void tml_arm_reset(void);

/* Leave for the program whose vector table is at `vectors`. */
_Noreturn void tml_arm_start(uint32_t vectors);

/* Starts since power-on, counted by the boot stage in RAM that resets keep. */
void tml_arm_count_boot(void);
uint32_t tml_arm_boots(void);

#endif
