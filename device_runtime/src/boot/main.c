/* The boot stage: bring the slots in order, then start the code image. */
#include "tml/image.h"
#include "tml/port.h"

#define ATTEMPTS 3 /* a flash that fails once may do the second time */

_Noreturn void tml_main(void) {
  static tml_boot_plan_t plan; /* too large for the stack of a small device */
  const tml_flash_map_t *map = tml_port_flash_map();
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (tml_boot_update(map, &plan) == TML_OK) {
      if (!plan.valid[TML_IMAGE_CODE][TML_SLOT_PRIMARY]) {
        tml_port_halt("no code image in the flash that is whole and for this device class");
      }
      tml_port_start(map, &plan.images[TML_IMAGE_CODE][TML_SLOT_PRIMARY]);
    }
  }
  tml_port_halt("the flash does not keep what is written");
}
