/* safetensors: named tensors in one file. Eight bytes of header length (little-endian), a JSON header,
 * then the bytes. The reader trusts nothing: a file that breaks any rule of the format is refused with the
 * rule named. Files written here are byte for byte what the official package would write. */
#ifndef SID2_SAFETENSORS_H
#define SID2_SAFETENSORS_H

#include "group.h"

typedef struct sid2_safetensors sid2_safetensors;

typedef struct sid2_safetensors_entry {
    const char *name;
    const char *type_name; /* as in the file: "F32", "F8_E4M3" ... */
    sid2_dtype dtype;      /* SID2_DTYPE_COUNT where sid2 has no such type */
    sid2_shape shape;      /* rank -1 where it has more than SID2_MAX_RANK dimensions */
    uint64_t begin;        /* where its data lie, from the start of all data on */
    size_t bytes;
} sid2_safetensors_entry;

/* Reads the header. Entries are in the order of their data. */
sid2_safetensors *sid2_safetensors_open(const char *path, sid2_error *err);
void sid2_safetensors_close(sid2_safetensors *file);
const char *sid2_safetensors_path(const sid2_safetensors *file); /* as it was opened by */
int sid2_safetensors_count(const sid2_safetensors *file);
const sid2_safetensors_entry *sid2_safetensors_at(const sid2_safetensors *file, int index);
const sid2_safetensors_entry *sid2_safetensors_find(const sid2_safetensors *file,
                                                    const char *name);                /* NULL: none */
const char *sid2_safetensors_metadata(const sid2_safetensors *file, const char *key); /* NULL: none */
/* Reads one tensor's bytes. Where the file has digests, they must agree: what is damaged is refused. */
bool sid2_safetensors_read(const sid2_safetensors *file, const sid2_safetensors_entry *entry, void *bytes,
                           sid2_error *err);
/* Reads everything: digests, where there are any, must agree, and every value of F32, BF16 or F16 must be
 * finite. `digest` (or NULL): 32 hexadecimal digits, XXH3-128 over name, type, shape and bytes of every
 * tensor, in order of name. */
bool sid2_safetensors_check(const sid2_safetensors *file, char digest[33], sid2_error *err);

typedef struct sid2_safetensors_item {
    const char *name;
    sid2_dtype dtype;
    sid2_shape shape;
    const void *data;
} sid2_safetensors_item;

/* Writes atomically. A name given twice, or "__metadata__", is an error. `metadata` holds key, value, key,
 * value, ..., NULL; or is NULL. `digests`: the metadata also get "xxh3_128:NAME" for every tensor, 32
 * hexadecimal digits over its bytes, as xxh128sum prints them. */
bool sid2_safetensors_write(const char *path, const sid2_safetensors_item *items, int count,
                            const char *const *metadata, bool digests, sid2_error *err);
/* The same file, with digests, by all ranks of a group together, each of which has all items; the first `writers` ranks
 * write a share each. Not atomic: for a new file in a folder that nobody sees yet. All ranks have the same answer. */
bool sid2_safetensors_write_together(sid2_group *group, int writers, const char *path,
                                     const sid2_safetensors_item *items, int count,
                                     const char *const *metadata, sid2_error *err);

#endif
