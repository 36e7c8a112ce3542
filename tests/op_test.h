/* Every operator of a device against the float64 reference, on random shapes, attributes and numbers:
 * tolerances and guards in core/opcheck.h. What the operator tests of all backends share. */
#ifndef SID2_OP_TEST_H
#define SID2_OP_TEST_H

#include "device.h"

typedef struct op_test {
    const sid2_backend *backend;
    const char *device;     /* its id, such as cpu */
    const char *blocks;     /* Vulkan: block sizes other than the device's; or NULL */
    int workers;            /* threads, with devices of their own, that share the work */
    int cases;              /* of each operator and type */
    const char *op, *dtype; /* only this one; NULL or "all": all */
} op_test;

/* Prints the device, and a line for each operator and type. The number of those that failed. */
int op_test_run(const op_test *test);

#endif
