/* What all ranks of a job must have alike, for their results depend on it: version, configuration, devices, data. */
#ifndef SID2_CENSUS_H
#define SID2_CENSUS_H

#include "group.h"

typedef struct sid2_census sid2_census;

sid2_census *sid2_census_create(sid2_error *err);
void sid2_census_destroy(sid2_census *census); /* NULL is fine */
/* A line of it, in the order of all ranks. A want of memory is told when they are compared. */
void sid2_census_add(sid2_census *census, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Called by all ranks. USAGE, the same message for each, where one is not as rank 0 is: "rank 3 on node7 has
 * train.batch 64, rank 0 on node1 has 32: ...". */
bool sid2_census_compare(sid2_census *census, sid2_group *group, sid2_error *err);

/* Whether all ranks see one folder, `path`, which is made where it is not there: rank 0 leaves something there that nobody
 * else could know. USAGE, the same message for each, names who does not within `seconds`, for a file system between hosts
 * may take its time. */
bool sid2_census_folder(sid2_group *group, const char *path, double seconds, sid2_error *err);

#endif
