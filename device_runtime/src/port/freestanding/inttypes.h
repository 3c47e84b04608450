/* For compilers that bring no C library: zcbor includes it and uses the integer types alone. */
#ifndef TML_FREESTANDING_INTTYPES_H
#define TML_FREESTANDING_INTTYPES_H
#include <stdint.h>
#endif
