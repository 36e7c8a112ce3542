/* Arrays as numpy writes them: one in an .npy file, several by name in an .npz. */
#ifndef SID2_ARRAYS_H
#define SID2_ARRAYS_H

#include "files.h"

enum { SID2_ARRAY_RANK = 5 };

typedef struct sid2_array {
    char type[8]; /* numpy's word, such as "|u1" */
    int rank;
    int64_t dim[SID2_ARRAY_RANK]; /* each at most INT32_MAX */
    uint64_t offset;              /* of its values in the file */
} sid2_array;

/* Reads the head of a member of `size` bytes, called `name` in messages. FORMAT, UNSUPPORTED. */
bool sid2_array_head(sid2_array *a, sid2_member *member, const char *name, uint64_t size, sid2_error *err);

/* An npz. */
typedef struct sid2_arrays sid2_arrays;
sid2_arrays *sid2_arrays_open(const char *path, sid2_error *err);
void sid2_arrays_close(sid2_arrays *arrays); /* NULL is fine */
/* Whether there is one of this name, without ".npy". */
bool sid2_arrays_have(const sid2_arrays *arrays, const char *name);
/* Opens one of real numbers (little-endian f2, f4 or f8); NULL: the first by name. */
bool sid2_arrays_find(sid2_arrays *arrays, const char *name, sid2_array *a, sid2_error *err);
/* `count` values of the array found last, from value `first` on. */
bool sid2_arrays_read(sid2_arrays *arrays, int64_t first, int64_t count, double *to, sid2_error *err);

/* The field's file of statistics: mu[width] and sigma[width,width], f8. Appears whole or not at all. */
bool sid2_statistics_write(const char *path, const double *mu, const double *sigma, int64_t width,
                           sid2_error *err);

#endif
