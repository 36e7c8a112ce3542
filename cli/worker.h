/* One side of a benchmark: a process of its own, so that its peak memory is its own, asked line by line.
 * tests/bench_pytorch.py is the other side and speaks the same language:
 *
 *     first line   what to do, as JSON       answered by    ready VERSION PARAMETERS
 *     run K        K steps                                  seconds
 *     mem                                                   peak MiB, MiB before the work was set up
 *     profile K    K steps, by operator (sid2 only)         JSON: {"seconds": s, "nodes": [[name, runs,
 *                                                           seconds, multiply-adds, bytes], ..]}
 *     quit
 *
 * Any failure is answered by `error WHY`. */
#ifndef SID2_CLI_WORKER_H
#define SID2_CLI_WORKER_H

#include "cli.h"

#include <jansson.h>
#include <stdio.h>

/* Serves on standard input and output; the exit code. */
int worker_serve(void);

enum { WORKER_SAMPLER_STEPS = 4, WORKER_TURNS = 2 };

typedef struct worker {
    int process;
    int whole; /* steps come in multiples of this: a sampler makes whole images only, networks take turns */
    FILE *in, *out;
    char version[64];
    double parameters;
} worker;

/* Starts `command` (ended by NULL) and gives it the first line. A request that is NULL fails for want of memory. */
bool worker_start(worker *w, const char *const *command, const json_t *request, sid2_error *err);
bool worker_ask(worker *w, const char *question, char *answer, size_t size, sid2_error *err);
void worker_stop(worker *w);

/* Processes that do nothing but keep a core busy, as long as this one lives, and no longer than an hour. */
enum { WORKER_MAX_LOAD = 256 };
typedef struct worker_load {
    int process[WORKER_MAX_LOAD];
    int count;
} worker_load;

bool worker_load_start(worker_load *load, int count, sid2_error *err);
void worker_load_stop(worker_load *load);

#endif
