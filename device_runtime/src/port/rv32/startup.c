/* Reset of an RV32 core. No interrupt is ever taken: mstatus.MIE stays 0. */
#include <stdint.h>

#include "../common/memory.h"

_Noreturn void tml_main(void);
_Noreturn void tml_on_reset(void);
_Noreturn void tml_rv32_prepare(void);

_Noreturn void tml_rv32_prepare(void) {
  const uint32_t *top;
  __asm volatile("mv %0, sp" : "=r"(top));
  tml_memory_paint_stack(top);
  tml_memory_prepare();
  tml_main();
}

/* First in the image: the boot stage, or the board, jumps to the image's first instruction. A fault comes here again. */
__attribute__((naked, section(".vectors"), used)) _Noreturn void tml_on_reset(void) {
  __asm volatile(
      "csrw mie, zero\n"
      "la t0, tml_on_reset\n"
      "csrw mtvec, t0\n"
      "la sp, tml_stack_end\n"
      "j tml_rv32_prepare\n");
}
