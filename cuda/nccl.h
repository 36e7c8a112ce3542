/* Ranks with a GPU each: NCCL carries the bytes, between GPUs of one machine and of many. */
#ifndef SID2_CUDA_NCCL_H
#define SID2_CUDA_NCCL_H

#include "transport.h"

/* Joins with the GPU that was opened last. The ranks meet at NCCL_COMM_ID, ADDRESS:PORT of rank 0's host, which is made from
 * what the launcher says where it is not set: nccl_root.c. */
extern const sid2_transport sid2_nccl_transport;

/* Whether its library is there; else `why` says what is missing: "libnccl.so.2 not found". */
bool sid2_nccl_there(char *why, size_t size);

/* ADDRESS:PORT, by NCCL_COMM_ID; else of MASTER_ADDR, of Slurm's first host, or of this host where all ranks are on it,
 * and a port by the job's name, so that jobs on one host do not meet. USAGE: nothing says where rank 0 is. */
bool sid2_nccl_root(const sid2_place *place, char root[300], sid2_error *err);

#endif
