/* What training on several GPUs would give: operations, bytes and memory are counted from the very graphs and plans that
 * run; rates are assumed (gpus.def). An estimate for who chooses a machine, or looks for what is slower than it should be.
 *
 * A step is: forward pass, backward pass, sum of the gradients over the ranks, update of each rank's part, and its weights to
 * all. Without overlap these follow each other. With it gradients leave in buckets as the backward pass makes them whole, and
 * weights come in pieces as the next forward pass wants them; what then is left is waited for. */
#ifndef SID2_SCALING_H
#define SID2_SCALING_H

#include "training.h"

/* A kind of GPU, in nodes of so many. Bytes and operations a second. */
typedef struct sid2_cluster {
    const char *gpu, *name;
    double operations, fp8, bandwidth, link, network; /* fp8: operations on eight bits; 0: none */
    size_t memory, cache;                             /* bytes, of the second level */
    int node;                                         /* GPUs in one; a power of two */
    double share;                                     /* of the operations that are reached */
} sid2_cluster;

/* Eight a node, and the share that gpus.def has. USAGE: no such GPU; the message lists them. */
bool sid2_cluster_of(sid2_cluster *cluster, const char *gpu, sid2_error *err);
/* By a device's name, "NVIDIA H100 80GB HBM3"; false: none that is known. */
bool sid2_cluster_of_device(sid2_cluster *cluster, const char *name);
/* What is assumed, in words; NULL past the last. */
typedef struct sid2_assumption {
    const char *word, *help;
    double value;
} sid2_assumption;
const sid2_assumption *sid2_scaling_assumption(int index);

/* How gradients are summed over the ranks. */
typedef enum sid2_sum {
    SID2_SUM_F32,     /* exact: in the fixed tree, f32 on the wire */
    SID2_SUM_LIBRARY, /* by the library's ring: other bits with other numbers of ranks */
    SID2_SUM_BF16,    /* exact: in the fixed tree, bf16 on the wire */
    SID2_SUM_COUNT
} sid2_sum;

enum { SID2_PIECES = 3 }; /* of weights */

/* A rank's share of a step. */
typedef struct sid2_rank_work {
    int ranks, lanes, images, microbatch; /* lanes and images of this rank */
    double operations; /* of a trained image: three passes of the network, as published counts have it */
    double again;      /* computed once more for want of memory, in such passes */
    double counted;    /* the share of the GPU's operations a second, by counting: below */
    double
        counted_fp8; /* with the matrix products that gain by it in eight bits, still of the operations on 16 bits */
    int64_t elements; /* parameters, as they lie in memory */
    int averages;
    size_t state, arena; /* bytes of memory: weights, gradients, this rank's part of the rest; activations */
    double whole[SID2_BUCKETS],
        wanted[SID2_PIECES]; /* when, in shares of the backward and of the forward pass */
} sid2_rank_work;

/* Plans a rank's part of the configuration's batch, in bf16. `counted` takes each operator for as long as the slower of its
 * multiply-adds and its bytes lasts, at the shares of those rates that are assumed. USAGE: the batch has no such number of lanes; MEMORY: it does not
 * fit. */
bool sid2_rank_work_of(const sid2_config *config, const sid2_cluster *cluster, int ranks,
                       sid2_rank_work *work, sid2_error *err);

/* Whether so many ranks can sum so: exact sums want a power of two. */
bool sid2_sum_suits(sid2_sum sum, int ranks);
/* Bytes that a rank sends in a step. */
double sid2_sum_bytes(const sid2_rank_work *work, sid2_sum sum);

/* Seconds of a step, by what they are waited for. Overlapped, exchange and gather are what the backward and the forward pass do
 * not hide, with the latencies of their own calls. */
typedef struct sid2_step_time {
    double compute, update, exchange, gather, latency;
} sid2_step_time;

sid2_step_time sid2_scaling_step(const sid2_rank_work *work, const sid2_cluster *cluster, sid2_sum sum,
                                 bool overlap);
double sid2_step_seconds(const sid2_step_time *step);
/* Of one GPU with all of the batch. */
double sid2_scaling_alone(const sid2_rank_work *work, const sid2_cluster *cluster);

#endif
