/* What the parts of sid2 bench share. */
#ifndef SID2_CLI_BENCH_H
#define SID2_CLI_BENCH_H

#include "worker.h"

enum { BENCH_MAX_ROUNDS = 99, BENCH_MAX_COUNTS = 16 };

typedef struct bench_job {
    const char *preset, *against, *python, *dtypes, *rows, *threads, *predict;
    int64_t batch, rounds, load; /* load: busy processes beside */
    int64_t own_batch;           /* the batch asked for; 0: each network's own */
    device_choice on;
    double seconds; /* that one measurement should last */
    bool compile, scaling, exchange, latent, serve;
    int counts[BENCH_MAX_COUNTS], count;              /* of threads, to be measured */
    int predicted[BENCH_MAX_COUNTS], predicted_count; /* threads to predict */
    int64_t sockets;                                  /* of the predicted machine */
    double bandwidth;                                 /* GB/s of a socket's memory */
    int cores;
    assignments set;
    sid2_config *config;
    char program[4096], script[4096];
} bench_job;

/* What every request says is added to `request`, which is the caller's no more: how, on what. NULL without memory. */
json_t *bench_request_on(const bench_job *job, const char *dtype, json_t *request);
/* A request to train or to sample (mode), for both sides. NULL without memory. */
json_t *bench_request(const bench_job *job, const char *mode, const char *dtype);
bool bench_start_sid2(const bench_job *job, worker *w, const json_t *request, sid2_error *err);
/* Refuses a model of another size than `ours`. */
bool bench_start_pytorch(const bench_job *job, worker *w, const json_t *request, const worker *ours,
                         sid2_error *err);

/* All sides in turn, round by round, so that whatever else the machine does meets all; the busy processes run beside.
 * seconds[count]: medians of a step. */
bool bench_measure(const bench_job *job, worker *side, int count, double *seconds, sid2_error *err);
/* Where the time of so many steps went: {"seconds": s, "nodes": [..]}, as worker.h has it, of one. NULL: failed. */
json_t *bench_profile(worker *w, int64_t steps, sid2_error *err);
/* MiB: the peak, and before the work was set up. */
bool bench_memory(worker *w, double mib[2], sid2_error *err);
double bench_median(double *values, int count); /* sorts them */
/* Beside PyTorch: one row of speed in images (of a sampler: network evaluations of one image) a second, and two of memory;
 * or, where `unit` is NULL, one row of an operator's steps. Takes the request. */
bool bench_compare(const bench_job *job, const char *name, const char *dtype, const char *unit,
                   json_t *request, sid2_error *err);
/* Whether a list of words has this one. */
bool bench_wants(const char *list, const char *word);

/* The preset of this name, as the command line has it changed. NULL: failed. */
sid2_config *bench_config(const bench_job *job, const char *preset, sid2_error *err);

/* The networks that judge, beside PyTorch: rows inception and i3d. */
bool bench_judges(const bench_job *job, sid2_error *err);
/* What pixels cost beside latents. */
bool bench_latent(const bench_job *job, sid2_error *err);
/* What more threads give, beside PyTorch where that is asked for. */
bool bench_scaling(const bench_job *job, sid2_error *err);
/* What training on more cores would give. Sets train.batch and train.precision of the configuration. */
bool bench_predict(bench_job *job, sid2_error *err);
/* What sums over ranks cost, of which this process is one. Sets the same. The exit code. */
int bench_exchange(const bench_job *job);

#endif
