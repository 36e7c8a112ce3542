/* How ranks reach each other: opens the module that suits whatever started them. */
#ifndef SID2_TRANSPORTS_H
#define SID2_TRANSPORTS_H

#include "transport.h"

/* NCCL for ranks on CUDA devices where it is there, else the MPI that started them; the variable SID2_MPI, a module's path or
 * "mpich" or "ompi", asks for that in any case (NCCL takes no two ranks on one GPU). `device`: this rank's; NULL: a CPU. What is
 * opened stays so as long as the process. UNSUPPORTED: no such module, or its library is missing. */
const sid2_transport *sid2_transport_open(const sid2_place *place, const sid2_device *device,
                                          sid2_error *err);
/* Whether there is a module for an MPI: "mpich", "ompi". */
bool sid2_transport_has(const char *mpi);

#endif
