/* Inside data/: lists of names. */
#ifndef SID2_NAMES_H
#define SID2_NAMES_H

#include "base.h"

typedef struct sid2_names {
    char **item;
    int64_t count, room;
} sid2_names;

bool sid2_names_push(sid2_names *names, const char *name, sid2_error *err); /* copies */
void sid2_names_free(sid2_names *names);

/* "folder/name", the caller's to free; NULL without memory. */
char *sid2_path_join(const char *folder, const char *name);

#endif
