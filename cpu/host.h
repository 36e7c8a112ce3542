/* What the machine offers this process: its name, its cores, its memory. */
#ifndef SID2_CPU_HOST_H
#define SID2_CPU_HOST_H

#include <stdbool.h>
#include <stddef.h>

/* Writes the processor's name ("AMD EPYC 9755") into `name`; the architecture where it has none. */
void sid2_cpu_host_name(char *name, size_t size);
/* One thread per core that the process may use: its affinity mask, hardware threads of one core counted once
 * (they share the multipliers), no more than its cgroup's quota. At least 1. */
int sid2_cpu_host_threads(void);
/* Of `wanted` threads beside the caller's, how many the system lets a process start now (RLIMIT_NPROC, pids.max). */
int sid2_cpu_host_startable(int wanted);
/* Bytes of memory that the process may use: the machine's, or its cgroup's limit where that is less. */
size_t sid2_cpu_host_memory(void);
/* Whether processor and kernel have "f16c", "avx512bf16" or "amx-bf16": what not every compiler's
 * __builtin_cpu_supports knows. */
bool sid2_cpu_host_has(const char *feature);

#endif
