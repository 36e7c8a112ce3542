/* Device memory by name: what the externals of a graph are bound to. */
#ifndef SID2_BUFFERS_H
#define SID2_BUFFERS_H

#include "device.h"

typedef struct sid2_buffers {
    sid2_device *device;
    sid2_binding *item; /* names are copies */
    int count, capacity;
} sid2_buffers;

sid2_buffer *sid2_buffers_find(const sid2_buffers *buffers, const char *name); /* NULL: none */
size_t sid2_buffers_bytes(const sid2_buffers *buffers);
void sid2_buffers_clear(sid2_buffers *buffers);

/* The whole buffer `name`, from or to host memory. */
bool sid2_buffers_upload(sid2_buffers *buffers, const char *name, const void *from, sid2_error *err);
bool sid2_buffers_download(const sid2_buffers *buffers, const char *name, void *to, sid2_error *err);

/* A program for `graph` in `arena` (NULL: its own), with a new zero-filled buffer for every external that it uses and
 * that has none yet. */
sid2_program *sid2_buffers_program(sid2_buffers *buffers, const sid2_graph *graph, sid2_arena *arena,
                                   sid2_error *err);

/* Bytes of the externals that graphs use, equal names counted once; no device is needed. */
size_t sid2_externals_bytes(const sid2_graph *const *graphs, int count);

#endif
