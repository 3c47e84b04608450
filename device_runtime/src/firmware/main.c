/* The firmware: a model that answers over SMP. */
#include <stddef.h>

#include "tml/image.h"
#include "tml/model.h"
#include "tml/port.h"
#include "tml/smp.h"

static tml_smp_t smp;

/* The weights that are in the flash, if they are whole, of this device class and of this code's structure. */
static const uint8_t *usable_weights(const tml_flash_map_t *map, uint32_t arena_bytes) {
  tml_image_t image;
  if (tml_model.input_count == 0 || tml_model.arena_bytes > arena_bytes ||
      tml_image_check(map, TML_IMAGE_WEIGHTS, TML_SLOT_PRIMARY, &image) != TML_OK) {
    return NULL;
  }
  const uint8_t *weights = tml_port_weights();
  return tml_model_check(&tml_model, weights, image.payload_bytes) == TML_OK ? weights : NULL;
}

/* A client that has the answer to its reset may send at once: that is for the next program. */
static void write_answer(const uint8_t *bytes, uint32_t count) {
  if (smp.reset_requested) {
    tml_port_stop_reading();
  }
  tml_port_write(bytes, count);
}

_Noreturn void tml_main(void) {
  const tml_flash_map_t *map = tml_port_flash_map();
  uint32_t arena_bytes;
  uint8_t *arena = tml_port_arena(&arena_bytes);
  tml_port_open();
  const tml_smp_config_t config = {
      .map = map,
      .model = &tml_model,
      .weights = usable_weights(map, arena_bytes),
      .arena = arena,
      .write = write_answer,
      .ticks = tml_port_ticks,
      .ticks_hz = tml_port_ticks_hz(),
      .stack_high_water = tml_port_stack_high_water,
      .hardware_id = tml_port_hardware_id(),
      .boots = tml_port_boots(),
  };
  tml_smp_init(&smp, &config);
  for (;;) {
    uint8_t byte;
    while (tml_port_read_byte(&byte)) {
      tml_smp_byte(&smp, byte);
      if (smp.reset_requested) {
        tml_port_reset();
      }
    }
    tml_port_wait();
  }
}
