/* What the kernel's control groups leave to this process: a container, a systemd scope, a step of a Slurm job. */
#ifndef SID2_CPU_CGROUP_H
#define SID2_CPU_CGROUP_H

#include <stdint.h>

typedef struct sid2_cgroup_limits {
    double cores;    /* of processor time; 0: no limit */
    uint64_t memory; /* bytes; 0: no limit */
} sid2_cgroup_limits;

/* The least that the process's own groups and all above them allow, of version 1, 2 or both. `root`: what all paths
 * begin with, "" for the system's. */
sid2_cgroup_limits sid2_cgroup_read(const char *root);

#endif
