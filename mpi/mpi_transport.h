/* Ranks without GPUs, or for tests: MPI carries the bytes. */
#ifndef SID2_MPI_TRANSPORT_H
#define SID2_MPI_TRANSPORT_H

#include "transport.h"

SID2_API extern const sid2_transport sid2_mpi;

#endif
