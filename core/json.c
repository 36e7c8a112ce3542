#include "json.h"

#include "digest.h"
#include "file.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static json_malloc_t allocate; /* as it was set before: an application may have its own */
static json_free_t release;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local bool starved;

static void *watched(size_t size)
{
    void *block = allocate(size);
    starved |= !block;
    return block;
}

/* For the whole process, where it changes nothing for others who use jansson. */
static void watch(void)
{
    json_get_alloc_funcs(&allocate, &release);
    json_set_alloc_funcs(watched, release);
}

/* An application may unload this library and keep jansson. */
__attribute__((destructor)) static void unwatch(void)
{
    json_malloc_t now;
    json_free_t with;
    json_get_alloc_funcs(&now, &with);
    if (now == watched) json_set_alloc_funcs(allocate, with);
}

json_t *sid2_json_read(const void *text, size_t size, size_t flags, json_error_t *problem)
{
    pthread_once(&once, watch);
    if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text = (const char *)text + 3, size -= 3;
    starved = false;
    json_t *read = json_loadb((const char *)text, size, flags, problem);
    if (!starved) return read;
    json_decref(read);
    return NULL;
}

bool sid2_json_no_memory(void) { return starved; }

json_t *sid2_json_real(double value) { return isfinite(value) ? json_real(value) : json_null(); }

double sid2_json_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

json_t *sid2_json_parse(const void *text, size_t size, size_t flags, const char *name, sid2_error *err)
{
    json_error_t problem;
    json_t *read = sid2_json_read(text, size, flags, &problem);
    if (!read && starved)
        sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", name);
    else if (!read)
        sid2_fail(err, SID2_ERR_FORMAT, "%s: line %d: %s", name, problem.line, problem.text);
    return read;
}

bool sid2_json_save(const char *path, const json_t *object, size_t flags, sid2_error *err)
{
    char *text = json_dumps(object, flags), digest[33];
    sid2_atomic_file file;
    bool ok =
        text ? sid2_atomic_open(&file, path, err) : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    if (ok) {
        size_t fields = strlen(text) - strlen("\n}");
        sid2_digest_bytes(text, fields, digest);
        fprintf(file.stream, "%.*s,\n  \"xxh3_128\": \"%s\"\n}\n", (int)fields, text, digest);
        ok = sid2_atomic_commit(&file, err);
    }
    free(text);
    return ok;
}
