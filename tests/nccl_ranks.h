/* Ranks over NCCL that are forked processes, with a CUDA and a NCCL that live on the host (fake_cuda.h, fake_nccl.h). */
#ifndef SID2_TEST_NCCL_RANKS_H
#define SID2_TEST_NCCL_RANKS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_cuda.h"
#include "fake_nccl.h"

#include "../cuda/cuda_backend.h"
#include "../cuda/nccl.h"

#include "group.h"

enum { NCCL_RANKS = 8 };

typedef const char *part(sid2_group *group, sid2_device *device, sid2_place *place);

static inline sid2_device *open_cuda(void)
{
    static const sid2_backend *const all[] = {&sid2_backend_cuda};
    return sid2_backends_open(all, 1, "cuda:0", NULL, NULL);
}

static double patience = 60;

/* One rank's life; its exit code says whether it was fine. */
static inline int live(part *what, sid2_place place)
{
    sid2_error cause = {0};
    alarm(120); /* who waits for a device waits for ever */
    fake.seed = 77 + (uint64_t)place.rank;
    sid2_device *device = open_cuda();
    sid2_group *group = device ? sid2_group_join(&sid2_nccl_transport, &place, patience, &cause) : NULL;
    const char *wrong = !group                                      ? cause.message
                        : !sid2_group_attach(group, device, &cause) ? cause.message
                        : !sid2_group_queues(group)                 ? "nothing is queued"
                                                                    : what(group, device, &place);
    if (wrong) return fprintf(stderr, "rank %d of %d: %s\n", place.rank, place.ranks, wrong), 1;
    sid2_group_leave(group, true);
    sid2_device_close(device);
    if (fake.allocations)
        return fprintf(stderr, "rank %d: %d allocations stay\n", place.rank, fake.allocations), 1;
    return 0;
}

/* The ranks' exit codes, 128 and the signal for one that was killed. */
static inline void as_processes(part *what, int ranks, int code[NCCL_RANKS])
{
    pid_t child[NCCL_RANKS];
    fake_nccl_begin();
    fflush(NULL);
    for (int r = 0; r < ranks; r++) {
        child[r] = fork();
        assert_true(child[r] >= 0);
        sid2_place place = {
            .rank = r, .ranks = ranks, .local_rank = r, .local_ranks = ranks, .launcher = "a test"};
        if (child[r] == 0) _exit(live(what, place));
    }
    for (int r = 0; r < ranks; r++) {
        int status;
        assert_int_equal(waitpid(child[r], &status, 0), child[r]);
        code[r] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    fake_nccl_end();
}

static inline void all_fine(part *what, int most)
{
    for (int ranks = 2; ranks <= most; ranks *= 2) {
        int code[NCCL_RANKS];
        as_processes(what, ranks, code);
        for (int r = 0; r < ranks; r++) assert_int_equal(code[r], 0);
    }
}

#endif
