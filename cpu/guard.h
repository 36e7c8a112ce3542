/* oneDNN is C++ behind a C interface, and where memory ends some of its calls throw. C cannot catch: uncaught, an
 * exception ends the program. So every call that may throw is made through this. */
#ifndef SID2_GUARD_H
#define SID2_GUARD_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Runs work(user). False: an exception came out of it, and what it was at is left half-done. Always true where the
 * build had no C++ compiler. */
bool sid2_guard(void (*work)(void *user), void *user);

#ifdef __cplusplus
}
#endif

#endif
