/* Arm MPS2 with FPGA image AN385 (application note DAI0385). */
#ifndef TML_BOARD_H
#define TML_BOARD_H

#define TML_BOARD_UART 0x40004000u
#define TML_BOARD_UART_RX_IRQ 0u
#define TML_BOARD_TIMER 0x40000000u
#define TML_BOARD_CLOCK_HZ 25000000u

#endif
