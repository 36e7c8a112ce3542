/* sid2 check --compile-only: what a GPU's compiler makes of the shaders, where nothing can be executed. */
#ifndef SID2_CLI_COMPILE_H
#define SID2_CLI_COMPILE_H

#include "base.h"

typedef struct compile_job {
    const char *device; /* NULL or "auto": the best of Vulkan's */
    int cases;          /* of each operator and type, as sid2 check draws them */
    uint64_t seed;
    const char *json_path; /* NULL: a table; "-": printed */
} compile_job;

/* Compiles the operators' cases, and training and sampling of every preset in every type that the device has. */
bool compile_and_tell(const compile_job *job, sid2_error *err);

#endif
