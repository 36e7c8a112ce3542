/* Every operator of the CUDA device. Skipped where there is no GPU. Arguments: cases (40), operator (all).
 * The reference takes most of the time, hence the many workers. */
#include <stdio.h>
#include <stdlib.h>

#include "cuda_backend.h"
#include "op_test.h"

int main(int argc, char **argv)
{
    char why[200] = "no CUDA device";
    if (sid2_backend_cuda.count() == 0) {
        if (sid2_backend_cuda.missing) sid2_backend_cuda.missing(0, why);
        printf("skipped: %s\n", why);
        return 77;
    }
    return op_test_run(&(op_test){.backend = &sid2_backend_cuda,
                                  .device = "cuda:0",
                                  .workers = 8,
                                  .cases = argc > 1 ? atoi(argv[1]) : 40,
                                  .op = argc > 2 ? argv[2] : NULL}) != 0;
}
