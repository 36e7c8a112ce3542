/* A NCCL on the host, for tests of cuda/nccl.c: ranks are forked processes, the wire between them is shared memory. Calls
 * queue on the host CUDA's streams (fake_cuda.h) and are done as late as those allow. What the real one leaves to chance is
 * an error here: other bytes than the peer expects, memory that is no device's, a stream that is being captured. */
#ifndef SID2_TEST_FAKE_NCCL_H
#define SID2_TEST_FAKE_NCCL_H

#include <stdbool.h>

/* Something that goes wrong for this rank, at its n-th group of calls (from 1 on). */
typedef struct fake_nccl {
    enum {
        FAKE_NCCL_FINE,
        FAKE_NCCL_ERROR,
        FAKE_NCCL_NEVER,
        FAKE_NCCL_GONE
    } fault; /* asynchronous; not done; killed */
    int at;
    int version; /* 0: there is no NCCL */
    int groups;  /* counted */
} fake_nccl;
extern fake_nccl nccl_here;

/* A new wire, for the ranks that are forked from now on. */
void fake_nccl_begin(void);
void fake_nccl_end(void);

#endif
