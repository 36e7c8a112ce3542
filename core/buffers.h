/* Device memory by name: what the externals of a graph are bound to. */
#ifndef SID2_BUFFERS_H
#define SID2_BUFFERS_H

#include "device.h"

typedef struct sid2_buffers {
    sid2_device *device;
    sid2_binding *item; /* names are copies */
    int count, capacity;
    int borrowed; /* the first so many are another's */
} sid2_buffers;

sid2_buffer *sid2_buffers_find(const sid2_buffers *buffers, const char *name); /* NULL: none */
size_t sid2_buffers_bytes(const sid2_buffers *buffers);                        /* of its own */
void sid2_buffers_clear(sid2_buffers *buffers);

/* A new zero-filled buffer for every flat array of parameters that `graph` uses and that has none yet. */
bool sid2_buffers_params(sid2_buffers *buffers, const sid2_graph *graph, sid2_error *err);
/* The same for every external that `graph` uses. */
bool sid2_buffers_externals(sid2_buffers *buffers, const sid2_graph *graph, sid2_error *err);
/* A new zero-filled buffer of so many bytes, unless there is one of that name. */
bool sid2_buffers_add(sid2_buffers *buffers, const char *name, size_t bytes, sid2_error *err);
/* All that `from` has, also here, where nothing is yet; it stays the other's, and must live as long. */
bool sid2_buffers_borrow(sid2_buffers *buffers, const sid2_buffers *from, sid2_error *err);

/* The whole buffer `name`, from or to host memory. */
bool sid2_buffers_upload(sid2_buffers *buffers, const char *name, const void *from, sid2_error *err);
bool sid2_buffers_download(const sid2_buffers *buffers, const char *name, void *to, sid2_error *err);

/* A program for `graph` in `arena` (NULL: its own), with a new zero-filled buffer for every external that it uses and
 * that has none yet. */
sid2_program *sid2_buffers_program(sid2_buffers *buffers, const sid2_graph *graph, sid2_arena *arena,
                                   sid2_error *err);

/* Bytes of the externals that graphs use, equal names counted once: of those that are flat arrays of parameters, or of
 * the others. No device is needed. */
size_t sid2_externals_bytes(const sid2_graph *const *graphs, int count, bool params);

#endif
