/* How long OpenMP's threads spin, waiting for each other, before they sleep.
 *
 * Sleeping and waking costs tens of microseconds, and a training step has thousands of loops: where the cores are
 * ours, threads should spin. Where other programs want them too, spinning is ruinous: the thread that all wait for
 * is not running, since those that wait are. So: spin, until the kernel begins to take cores away; then sleep soon,
 * until it has not for a while. This acts on all OpenMP threads of the process, also on oneDNN's. */
#ifndef SID2_CPU_WAITING_H
#define SID2_CPU_WAITING_H

#include <stdbool.h>

typedef struct sid2_cpu_waiting sid2_cpu_waiting;

/* For loops over so many threads. NULL where the environment says how to wait (GOMP_SPINCOUNT, KMP_BLOCKTIME,
 * OMP_WAIT_POLICY), with one thread, or without memory; the other functions take that. */
sid2_cpu_waiting *sid2_cpu_waiting_start(int threads);
/* Looks whether cores were taken away since the last time, and acts on it. To be called often, outside loops. */
void sid2_cpu_waiting_adapt(sid2_cpu_waiting *waiting);
/* Whether threads sleep soon. */
bool sid2_cpu_waiting_is_brief(const sid2_cpu_waiting *waiting);
/* Waiting is as it was before. */
void sid2_cpu_waiting_stop(sid2_cpu_waiting *waiting);

#endif
