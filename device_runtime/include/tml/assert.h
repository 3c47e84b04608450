/* Invariants that generated code and the firmware keep: checked in tests, compiled out in a release.
 *
 * TML_CHECKED has a broken one stop the program; or define TML_ASSERT(condition) before the first include.
 */
#ifndef TML_ASSERT_H
#define TML_ASSERT_H

#ifndef TML_ASSERT
#ifdef TML_CHECKED
#define TML_ASSERT(condition) ((condition) ? (void)0 : __builtin_trap())
#else
#define TML_ASSERT(condition) ((void)sizeof(condition))
#endif
#endif

#endif
