/* Reset of an ARMv6-M to ARMv8.1-M core, for boot stage, firmware and bare inference alike. No interrupt is ever taken. */
#include <stdint.h>

#include "../common/memory.h"
#include "startup.h"

#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define SCB_AIRCR (*(volatile uint32_t *)0xE000ED0Cu)
#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define AIRCR_KEY 0x05FA0000u
#define AIRCR_SYSRESETREQ 0x4u

#define BOOTS_MAGIC 0x544F4F42u /* "BOOT" */

/* Kept over resets: no start-up code touches it. Same place in boot stage and firmware. */
static struct {
  uint32_t magic;
  uint32_t boots;
} kept __attribute__((section(".noinit")));

_Noreturn void tml_arm_reset(void) {
  __asm volatile("dsb" ::: "memory");
  SCB_AIRCR = AIRCR_KEY | AIRCR_SYSRESETREQ;
  for (;;) {
    __asm volatile("dsb" ::: "memory");
  }
}

void tml_arm_count_boot(void) {
  kept.boots = kept.magic == BOOTS_MAGIC ? kept.boots + 1u : 1u;
  kept.magic = BOOTS_MAGIC;
}

uint32_t tml_arm_boots(void) { return kept.magic == BOOTS_MAGIC ? kept.boots : 0u; }

_Noreturn void tml_arm_start(uint32_t vectors) {
  const uint32_t *table = (const uint32_t *)(uintptr_t)vectors;
  SCB_VTOR = vectors;
  __asm volatile("dsb\n isb\n msr msp, %0\n bx %1" ::"r"(table[0]), "r"(table[1]) : "memory");
  __builtin_unreachable();
}

/* A fault is answered by starting again: the gateway sees it in the count of boots. */
_Noreturn static void on_fault(void) { tml_arm_reset(); }

_Noreturn void tml_on_reset(void) {
  __asm volatile("cpsid i" ::: "memory");
#ifdef __ARM_FP
  SCB_CPACR |= 0xFu << 20;
  __asm volatile("dsb\n isb" ::: "memory");
#endif
  const uint32_t *top;
  __asm volatile("mov %0, sp" : "=r"(top));
  tml_memory_paint_stack(top);
  tml_memory_prepare();
  tml_main();
}

__attribute__((section(".vectors"), used)) static const struct {
  const uint32_t *stack;
  void (*handlers[15])(void);
} vectors = {
    tml_stack_end,
    {tml_on_reset, on_fault, on_fault, on_fault, on_fault, on_fault, on_fault, on_fault, on_fault, on_fault, on_fault, on_fault,
     on_fault, on_fault, on_fault},
};
