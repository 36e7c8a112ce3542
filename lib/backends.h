/* The backends that this build has. */
#ifndef SID2_LIB_BACKENDS_H
#define SID2_LIB_BACKENDS_H

#include "device.h"

extern const sid2_backend *const sid2_backends[];
extern const int sid2_backend_count;
/* Opens GPUs to see what their compilers make of the shaders; none of the above. NULL: this build has none. */
extern const sid2_backend *const sid2_compiler;

#endif
