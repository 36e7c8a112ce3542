/* What sid2 calls of NCCL, any 2.x from 2.18 on. Its header is in no package of Debian's, and its binary interface has not
 * changed since: so the few declarations stand here. */
#ifndef SID2_CUDA_NCCL_API_H
#define SID2_CUDA_NCCL_API_H

#include <cuda_runtime_api.h>

typedef struct ncclComm *ncclComm_t;
typedef struct ncclUniqueId {
    char internal[128];
} ncclUniqueId;
typedef enum ncclResult_t {
    ncclSuccess = 0,
    ncclInternalError = 3,
    ncclRemoteError = 6,
    ncclInProgress = 7
} ncclResult_t; /* whatever else there is, is an error */
typedef enum ncclDataType_t { ncclUint8 = 1 } ncclDataType_t;

ncclResult_t ncclGetVersion(int *version);
ncclResult_t ncclGetUniqueId(ncclUniqueId *id);
ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank);
ncclResult_t ncclCommDestroy(ncclComm_t comm);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error);
const char *ncclGetErrorString(ncclResult_t result);
const char *ncclGetLastError(ncclComm_t comm);
ncclResult_t ncclGroupStart(void);
ncclResult_t ncclGroupEnd(void);
ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream);

#endif
