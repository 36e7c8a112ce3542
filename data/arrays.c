#include "arrays.h"

#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HEADER = 1 << 16 };

/* ---- Heads: "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }" ---- */

static bool parse_header(sid2_array *a, const char *text)
{
    const char *type = strstr(text, "'descr':"), *order = strstr(text, "'fortran_order':"),
               *shape = strstr(text, "'shape':");
    if (!type || !order || !shape || sscanf(type + 8, " '%7[^']'", a->type) != 1) return false;
    order += strspn(order + 16, " ") + 16;
    if (strncmp(order, "False", 5) != 0) return false;
    const char *at = strchr(shape, '(');
    for (a->rank = 0; at && *at != ')'; a->rank++) {
        char *end;
        at += strspn(at, "(, ");
        if (*at == ')') break;
        if (*at < '0' || *at > '9' || a->rank == SID2_ARRAY_RANK) return false;
        long long extent = strtoll(at, &end, 10);
        if (extent < 0 || extent > INT32_MAX) return false;
        a->dim[a->rank] = extent;
        at = end;
    }
    return at != NULL;
}

bool sid2_array_head(sid2_array *a, sid2_member *member, const char *name, uint64_t size, sid2_error *err)
{
    uint8_t start[12] = {0};
    if (size < sizeof start) return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short", name);
    if (!sid2_member_read(member, start, sizeof start, 0, err)) return false;
    if (memcmp(start, "\x93NUMPY", 6) != 0)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: no array of numpy's", name);
    bool is_long = start[6] > 1;
    uint32_t length = (uint32_t)start[8] | (uint32_t)start[9] << 8;
    if (is_long) length |= (uint32_t)start[10] << 16 | (uint32_t)start[11] << 24;
    a->offset = (is_long ? 12 : 10) + (uint64_t)length;
    if (length > MOST_HEADER || a->offset > size)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short", name);
    char *text = calloc(1, (size_t)length + 1);
    if (!text) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name);
    bool ok = sid2_member_read(member, text, length, is_long ? 12 : 10, err);
    if (ok && !parse_header(a, text))
        ok = sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: an array that is not read here: %.200s", name, text);
    free(text);
    return ok;
}

/* ---- Real numbers in an npz ---- */

struct sid2_arrays {
    sid2_files *files;
    sid2_member *member;
    sid2_array found;
    int64_t values;
    int width; /* bytes of a value */
    char *name;
};

sid2_arrays *sid2_arrays_open(const char *path, sid2_error *err)
{
    sid2_kind kind;
    if (!sid2_look(path, &kind, err)) return NULL;
    if (kind != SID2_REGULAR)
        return sid2_fail(err, SID2_ERR_IO, kind == SID2_ABSENT ? "%s: no such file" : "%s: no file", path),
               NULL;
    sid2_arrays *a = calloc(1, sizeof *a);
    if (!a) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path), NULL;
    a->files = sid2_files_open(path, NULL, err);
    if (a->files && strcmp(a->files->kind, "zip") == 0) return a;
    if (a->files) sid2_fail(err, SID2_ERR_FORMAT, "%s: no npz", path);
    sid2_arrays_close(a);
    return NULL;
}

void sid2_arrays_close(sid2_arrays *a)
{
    if (!a) return;
    sid2_member_close(a->member);
    sid2_files_close(a->files);
    free(a->name);
    free(a);
}

static const sid2_entry *entry_of(const sid2_arrays *a, const char *name)
{
    char file[256];
    if (!name) {
        for (int64_t i = 0; i < a->files->count; i++)
            if (sid2_text_ends(a->files->entry[i].name, ".npy")) return &a->files->entry[i];
        return NULL;
    }
    snprintf(file, sizeof file, "%.240s.npy", name);
    return sid2_files_find(a->files, file, 0);
}

bool sid2_arrays_have(const sid2_arrays *a, const char *name) { return entry_of(a, name) != NULL; }

bool sid2_arrays_find(sid2_arrays *a, const char *name, sid2_array *found, sid2_error *err)
{
    const sid2_entry *entry = entry_of(a, name);
    if (!entry)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: holds no array%s%s", a->files->path, name ? " " : "",
                         name ? name : "");
    sid2_member_close(a->member);
    free(a->name);
    a->name = sid2_path_join(a->files->path, entry->name);
    a->member = a->name ? sid2_member_open(a->files, entry, err) : NULL;
    if (!a->name) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", a->files->path);
    sid2_array *h = &a->found;
    *h = (sid2_array){0};
    if (!a->member || !sid2_array_head(h, a->member, a->name, entry->size, err)) return false;
    a->width = h->type[0] == '<' && h->type[1] == 'f' && !h->type[3] ? h->type[2] - '0' : 0;
    if (a->width != 2 && a->width != 4 && a->width != 8)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: an array of %s; real numbers are <f2, <f4 or <f8",
                         a->name, h->type);
    const uint64_t most = (entry->size - h->offset) / (uint64_t)a->width;
    uint64_t values = 1;
    for (int i = 0; i < h->rank; i++) {
        if (h->dim[i] && values > most / (uint64_t)h->dim[i])
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short", a->name);
        values *= (uint64_t)h->dim[i];
    }
    a->values = (int64_t)values;
    *found = *h;
    return values <= most || sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short", a->name);
}

bool sid2_arrays_read(sid2_arrays *a, int64_t first, int64_t count, double *to, sid2_error *err)
{
    enum { PART = 4096 };
    uint8_t bytes[8 * PART];
    if (first < 0 || count < 0 || first > a->values || count > a->values - first)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short", a->name);
    for (int64_t done = 0; done < count;) {
        int64_t now = count - done < PART ? count - done : PART;
        if (!sid2_member_read(a->member, bytes, (size_t)(now * a->width),
                              a->found.offset + (uint64_t)((first + done) * a->width), err))
            return false;
        for (int64_t i = 0; i < now; i++) {
            uint16_t half;
            float single;
            if (a->width == 8)
                memcpy(&to[done + i], bytes + 8 * i, 8);
            else if (a->width == 4)
                memcpy(&single, bytes + 4 * i, 4), to[done + i] = (double)single;
            else
                memcpy(&half, bytes + 2 * i, 2), to[done + i] = (double)sid2_f16_to_f32(half);
        }
        done += now;
    }
    return true;
}
