/* Invariants that generated code and the firmware keep: checked in tests, compiled out in a release.
 *
 * Define TML_ASSERT before the first include (or on the command line) to have them checked.
 */
#ifndef TML_ASSERT_H
#define TML_ASSERT_H

#ifndef TML_ASSERT
#define TML_ASSERT(condition) ((void)sizeof(condition))
#endif

#endif
