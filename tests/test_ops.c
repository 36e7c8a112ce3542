/* Every operator of the fast CPU device. Arguments: cases (300; 1000 is the full proof), operator (all). */
#include <stdlib.h>

#include "cpu.h"
#include "op_test.h"

int main(int argc, char **argv)
{
    return op_test_run(&(op_test){.backend = &sid2_backend_cpu,
                                  .device = "cpu",
                                  .workers = 2,
                                  .cases = argc > 1 ? atoi(argv[1]) : 300,
                                  .op = argc > 2 ? argv[2] : NULL}) != 0;
}
