/* Arm's MPS2 and MPS3 boards: CMSDK UART 0 and timer 0; flash is memory. tml_board.h has the addresses. */
#include "../common/clock.h"
#include "startup.h"
#include "tml/port.h"
#include "tml_board.h"
#include "tml_class.h"

typedef volatile struct {
  uint32_t data, state, control, interrupts, baud_divider;
} cmsdk_uart_t;
#define UART ((cmsdk_uart_t *)TML_BOARD_UART)
#define UART_STATE_TX_FULL 1u
#define UART_STATE_RX_FULL 2u
#define UART_CONTROL_TX 1u
#define UART_CONTROL_RX 2u
#define UART_CONTROL_RX_INTERRUPT 8u
#define UART_INTERRUPT_RX 2u
#define UART_BAUD 115200u

typedef volatile struct {
  uint32_t control, value, reload, interrupts;
} cmsdk_timer_t;
#define TIMER ((cmsdk_timer_t *)TML_BOARD_TIMER)

#define NVIC_ISER ((volatile uint32_t *)0xE000E100u)
#define NVIC_ICPR ((volatile uint32_t *)0xE000E280u)

static uint32_t early; /* 0: none */

void tml_port_open(void) {
  UART->baud_divider = TML_BOARD_CLOCK_HZ / UART_BAUD;
  UART->control = UART_CONTROL_TX | UART_CONTROL_RX | UART_CONTROL_RX_INTERRUPT;
  /* QEMU looks at its end of the line only after such a read. What it gives is kept: it may be a client's first byte. */
  early = UART->data;
  TIMER->reload = UINT32_MAX;
  TIMER->value = UINT32_MAX;
  TIMER->control = 1;
  /* Enabled but never taken (PRIMASK is set): it wakes the core from WFI. */
  NVIC_ISER[TML_BOARD_UART_RX_IRQ / 32u] = 1u << (TML_BOARD_UART_RX_IRQ % 32u);
}

bool tml_port_read_byte(uint8_t *byte) {
  if (early != 0) {
    *byte = (uint8_t)early;
    early = 0;
    return true;
  }
  if ((UART->state & UART_STATE_RX_FULL) == 0) {
    return false;
  }
  UART->interrupts = UART_INTERRUPT_RX;
  *byte = (uint8_t)UART->data;
  return true;
}

void tml_port_write(const uint8_t *bytes, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    while ((UART->state & UART_STATE_TX_FULL) != 0) {
    }
    UART->data = bytes[i];
  }
}

void tml_port_wait(void) {
  NVIC_ICPR[TML_BOARD_UART_RX_IRQ / 32u] = 1u << (TML_BOARD_UART_RX_IRQ % 32u);
  if ((UART->state & UART_STATE_RX_FULL) == 0) {
    __asm volatile("dsb\n wfi" ::: "memory");
  }
}

void tml_port_stop_reading(void) {
  UART->control = UART_CONTROL_TX;
  (void)UART->data; /* QEMU: see tml_port_open; without it one more byte is taken from the line, and lost */
}

_Noreturn void tml_port_reset(void) {
  while ((UART->state & UART_STATE_TX_FULL) != 0) {
  }
  tml_arm_reset();
}

_Noreturn void tml_port_start(const tml_flash_map_t *map, const tml_image_t *code) {
  (void)code;
  tml_arm_count_boot();
  tml_arm_start(TML_FLASH_ADDRESS + map->slot_offset[TML_IMAGE_CODE][TML_SLOT_PRIMARY] + TML_IMAGE_HEADER_BYTES);
}

_Noreturn void tml_port_halt(const char *why) {
  tml_port_open();
  uint32_t length = 0;
  while (why[length] != '\0') {
    length++;
  }
  tml_port_write((const uint8_t *)why, length);
  tml_port_write((const uint8_t *)"\r\n", 2);
  for (;;) {
    __asm volatile("wfi" ::: "memory");
  }
}

uint64_t tml_port_ticks(void) { /* the timer starts over after 2^32 ticks: 171 s at 25 MHz */
  static tml_clock_t clock;
  return tml_clock_ticks(&clock, UINT32_MAX - TIMER->value);
}
uint32_t tml_port_ticks_hz(void) { return TML_BOARD_CLOCK_HZ; }
const char *tml_port_hardware_id(void) { return ""; }
uint32_t tml_port_boots(void) { return tml_arm_boots(); }
