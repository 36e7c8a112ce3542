/* Devices of whatever backend this build has. */
#include "backends.h"

#include <stdlib.h>
#include <string.h>

enum { MISSING_LINE = 200 };

struct sid2_device_list {
    int count, best, missing_count;
    sid2_device_info *info;
    char (*missing)[MISSING_LINE];
};

/* Room for one more in an array of `count`, which grows one by one: there are few devices. */
static void *grown(void *array, int count, size_t size, sid2_error *err)
{
    void *larger = realloc(array, ((size_t)count + 1) * size);
    if (!larger) sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    return larger;
}

static bool list_backend(sid2_device_list *list, const sid2_backend *backend,
                         const sid2_device_options *options, sid2_error *err)
{
    for (int i = 0; i < backend->count(); i++) {
        sid2_device_info *info = grown(list->info, list->count, sizeof *info, err);
        if (!info) return false;
        list->info = info;
        info[list->count] = (sid2_device_info){0};
        if (backend->describe(i, options, &info[list->count])) list->count++;
    }
    for (int line = 0; backend->missing; line++) {
        char(*missing)[MISSING_LINE] = grown(list->missing, list->missing_count, sizeof *missing, err);
        if (!missing) return false;
        list->missing = missing;
        if (!backend->missing(line, missing[list->missing_count])) break;
        list->missing_count++;
    }
    return true;
}

sid2_device_list *sid2_devices(const sid2_device_options *options, sid2_error *err)
{
    sid2_device_options own;
    if (!sid2_take_options(&own, options, sid2_device_options, err)) return NULL;
    sid2_device_list *list = calloc(1, sizeof *list);
    if (!list) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    for (int b = 0; b < sid2_backend_count; b++) {
        if (list_backend(list, sid2_backends[b], &own, err)) continue;
        sid2_device_list_destroy(list);
        return NULL;
    }
    for (int i = 1; i < list->count; i++)
        if (list->info[i].rank > list->info[list->best].rank) list->best = i;
    return list;
}

void sid2_device_list_destroy(sid2_device_list *list)
{
    if (!list) return;
    free(list->info);
    free(list->missing);
    free(list);
}

int sid2_device_list_count(const sid2_device_list *list) { return list->count; }

const sid2_device_info *sid2_device_list_at(const sid2_device_list *list, int index)
{
    return index >= 0 && index < list->count ? &list->info[index] : NULL;
}

const sid2_device_info *sid2_device_list_best(const sid2_device_list *list)
{
    return sid2_device_list_at(list, list->best);
}

const char *sid2_device_list_missing(const sid2_device_list *list, int line)
{
    return line >= 0 && line < list->missing_count ? list->missing[line] : NULL;
}

sid2_device *sid2_device_open(const char *id, const sid2_device_options *options, sid2_error *err)
{
    sid2_device_options own;
    return sid2_take_options(&own, options, sid2_device_options, err)
               ? sid2_backends_open(sid2_backends, sid2_backend_count, id, &own, err)
               : NULL;
}

const char *sid2_version(void) { return SID2_VERSION; }
