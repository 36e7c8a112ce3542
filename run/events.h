/* TensorBoard's event files, as its own readers take them. */
#ifndef SID2_EVENTS_H
#define SID2_EVENTS_H

#include "base.h"

#include <stdio.h>

typedef struct sid2_events {
    char path[4096];
    FILE *stream; /* NULL: closed */
} sid2_events;

typedef struct sid2_scalar {
    char tag[40];
    double value;
} sid2_scalar;

/* Begins a file of its own in `folder`, which is made. Of what files before it say about steps after `step`,
 * TensorBoard shows nothing: the training has gone back to there. */
bool sid2_events_open(sid2_events *e, const char *folder, uint64_t step, sid2_error *err);
void sid2_events_close(sid2_events *e);
bool sid2_events_scalars(sid2_events *e, uint64_t step, const sid2_scalar *scalars, int count,
                         sid2_error *err);
/* A PNG file as it is. */
bool sid2_events_picture(sid2_events *e, uint64_t step, const char *tag, const char *png, sid2_error *err);

#endif
