/* A zip of PNG and JPEG files, labelled by dataset.json (the EDM layout) or by their folders. */
#include "source.h"
#include "text.h"

#include "digest.h"
#include "file.h"
#include "json.h"
#include "zip_write.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

typedef struct archive {
    zip_t *zip;
    pthread_mutex_t lock; /* libzip reads one member at a time; decoding is done outside */
    char *path;
    zip_uint64_t *entry; /* per picture: its number in the archive */
} archive;

/* Reads a whole member; the caller frees. */
static uint8_t *read_member(archive *a, zip_uint64_t entry, const char *name, size_t *size, sid2_error *err)
{
    zip_stat_t status;
    if (zip_stat_index(a->zip, entry, 0, &status))
        return sid2_zip_fail(name, zip_get_error(a->zip), err), NULL;
    if (!(status.valid & ZIP_STAT_SIZE))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: of unknown size", name), NULL;
    if (status.valid & ZIP_STAT_ENCRYPTION_METHOD && status.encryption_method != ZIP_EM_NONE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: encrypted: pack the archive without a password", name),
               NULL;
    if (status.size > SID2_IMAGE_MAX_FILE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: too large (%llu bytes)", name,
                         (unsigned long long)status.size),
               NULL;
    *size = (size_t)status.size;
    uint8_t *bytes = malloc(*size + 1);
    if (!bytes) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for %zu bytes", name, *size), NULL;
    zip_file_t *file = zip_fopen_index(a->zip, entry, 0);
    if (!file) {
        sid2_zip_fail(name, zip_get_error(a->zip), err);
        free(bytes);
        return NULL;
    }
    /* The checksum is compared when the end is read, so one byte more is asked for than there should be. */
    zip_int64_t got = 0, more;
    while ((size_t)got <= *size && (more = zip_fread(file, bytes + got, *size + 1 - (size_t)got)) != 0) {
        if (more < 0) break;
        got += more;
    }
    bool ok = more == 0 && (size_t)got == *size;
    if (!ok) {
        if (more < 0)
            sid2_zip_fail(name, zip_file_get_error(file), err);
        else
            sid2_fail(err, SID2_ERR_FORMAT, "%s: not of the size announced", name);
        free(bytes);
        bytes = NULL;
    }
    zip_fclose(file);
    return bytes;
}

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    archive *a = source->state;
    const char *name = source->names[index];
    sid2_image image;
    size_t size;
    pthread_mutex_lock(&a->lock);
    uint8_t *bytes = read_member(a, a->entry[index], name, &size, err);
    pthread_mutex_unlock(&a->lock);
    bool ok = bytes && sid2_image_decode(&image, bytes, size, name, err);
    free(bytes);
    if (ok) *sample = sid2_sample_of_picture(&image);
    return ok;
}

/* The checksums that the archive itself keeps. */
static bool tell(const sid2_source *source, sid2_digest *stream, sid2_error *err)
{
    (void)err;
    archive *a = source->state;
    for (int64_t i = 0; i < source->count; i++) {
        zip_stat_t status;
        uint64_t known[2] = {0};
        if (zip_stat_index(a->zip, a->entry[i], 0, &status) == 0 && status.valid & ZIP_STAT_CRC &&
            status.valid & ZIP_STAT_SIZE)
            known[0] = status.crc, known[1] = status.size;
        sid2_digest_add(stream, known, sizeof known);
    }
    return true;
}

static void close_zip(sid2_source *source)
{
    archive *a = source->state;
    if (!a) return;
    if (a->zip) zip_discard(a->zip);
    pthread_mutex_destroy(&a->lock);
    free(a->path);
    free(a->entry);
    free(a);
}

typedef struct member {
    const char *name;
    zip_uint64_t entry;
} member;

static int by_path(const void *a, const void *b)
{
    return sid2_compare_paths(((const member *)a)->name, ((const member *)b)->name);
}

/* Lists the pictures, sorted by name. */
static bool list_members(sid2_source *source, sid2_error *err)
{
    archive *a = source->state;
    zip_int64_t total = zip_get_num_entries(a->zip, 0);
    member *members = calloc((size_t)total + 1, sizeof *members);
    source->names = calloc((size_t)total + 1, sizeof *source->names);
    a->entry = calloc((size_t)total + 1, sizeof *a->entry);
    bool ok = members && source->names && a->entry;
    int64_t count = 0;
    for (zip_int64_t i = 0; ok && i < total; i++) {
        const char *name = zip_get_name(a->zip, (zip_uint64_t)i, ZIP_FL_ENC_GUESS);
        if (name && sid2_is_picture_name(name) && strncmp(name, "__MACOSX/", 9))
            members[count++] = (member){name, (zip_uint64_t)i};
    }
    if (ok) qsort(members, (size_t)count, sizeof *members, by_path);
    for (int64_t i = 0; ok && i < count; i++) {
        ok = (source->names[i] = strdup(members[i].name)) != NULL;
        a->entry[i] = members[i].entry;
        source->count = i + 1;
    }
    free(members);
    if (!ok) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of files", a->path);
    return count || sid2_fail(err, SID2_ERR_FORMAT, "%s: no PNG or JPEG pictures in this archive", a->path);
}

/* NULL where the member is missing (`err` untouched) or not JSON (`err` filled). */
static json_t *read_json(archive *a, const char *name, bool *exists, sid2_error *err)
{
    zip_int64_t entry = zip_name_locate(a->zip, name, 0);
    *exists = entry >= 0;
    if (!*exists) return NULL;
    char full[512];
    snprintf(full, sizeof full, "%s: %s", a->path, name);
    size_t size;
    uint8_t *bytes = read_member(a, (zip_uint64_t)entry, full, &size, err);
    if (!bytes) return NULL;
    json_error_t cause;
    json_t *json = sid2_json_read(bytes, size, JSON_REJECT_DUPLICATES, &cause);
    free(bytes);
    bool memory = !json && sid2_json_no_memory(&cause);
    if (!json)
        sid2_fail(err, memory ? SID2_ERR_MEMORY : SID2_ERR_FORMAT, "%s: line %d: %s", full, cause.line,
                  cause.text);
    return json;
}

/* [[name, class], ...]: every picture must be named once. */
static bool read_labels(sid2_source *source, const json_t *labels, int32_t *classes, sid2_error *err)
{
    archive *a = source->state;
    zip_int64_t total = zip_get_num_entries(a->zip, 0);
    int32_t *of_entry = malloc((size_t)total * sizeof *of_entry);
    if (!of_entry) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", a->path);
    for (zip_int64_t i = 0; i < total; i++) of_entry[i] = -1;
    bool ok = true;
    size_t i;
    json_t *pair;
    json_array_foreach(labels, i, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0));
        json_t *label = json_array_get(pair, 1);
        json_int_t value = json_is_integer(label) ? json_integer_value(label) : -1;
        if (!name || json_array_size(pair) != 2 || value < 0 || value >= SID2_MAX_CLASSES) {
            ok = sid2_fail(err, SID2_ERR_FORMAT,
                           "%s: dataset.json: label %zu%s%s is not a pair of a name and a class from 0 to %d",
                           a->path, i, name ? ", " : "", name ? name : "", SID2_MAX_CLASSES - 1);
            break;
        }
        zip_int64_t entry = zip_name_locate(a->zip, name, 0);
        if (entry < 0) {
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: dataset.json labels %s, which is not in the archive",
                           a->path, name);
            break;
        }
        of_entry[entry] = (int32_t)value;
        if (value >= *classes) *classes = (int32_t)value + 1;
    }
    for (int64_t k = 0; ok && k < source->count; k++) {
        source->labels[k] = of_entry[a->entry[k]];
        if (source->labels[k] < 0)
            ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: dataset.json has no label for %s", a->path,
                           source->names[k]);
    }
    free(of_entry);
    return ok;
}

/* Class names stand in dataset.json as "names", or in names.json as "classes" or "groups". */
static bool name_classes(sid2_source *source, const json_t *dataset, int32_t classes, sid2_error *err)
{
    bool exists;
    json_t *beside = read_json(source->state, "names.json", &exists, err);
    if (exists && !beside) return false;
    const json_t *candidates[] = {json_object_get(dataset, "names"), json_object_get(beside, "classes"),
                                  json_object_get(beside, "groups")};
    const json_t *names = NULL;
    for (int i = 0; i < 3 && !names; i++)
        if (json_is_array(candidates[i]) && json_array_size(candidates[i]) >= (size_t)classes)
            names = candidates[i];
    if (names && json_array_size(names) < SID2_MAX_CLASSES) classes = (int32_t)json_array_size(names);
    bool ok = sid2_source_number_classes(source, classes, err);
    for (int32_t i = 0; ok && names && i < classes; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        if (!name || !name[0]) continue;
        char *copy = strdup(name);
        if (!copy) ok = sid2_fail(err, SID2_ERR_MEMORY, "no memory for class names");
        if (!copy) break;
        free(source->class_names[i]);
        source->class_names[i] = copy;
    }
    json_decref(beside);
    return ok;
}

/* How many characters lead into the one folder that holds everything, "photos/cats/1.png" being class cats. */
static size_t common_folder(const sid2_source *source)
{
    const char *slash = strchr(source->names[0], '/');
    if (!slash) return 0;
    size_t length = (size_t)(slash - source->names[0]) + 1;
    for (int64_t i = 0; i < source->count; i++)
        if (strncmp(source->names[i], source->names[0], length) || !strchr(source->names[i] + length, '/'))
            return 0;
    return length;
}

static bool is_zip(const char *path, const uint8_t start[4])
{
    return sid2_text_ends(path, ".zip") || !memcmp(start, "PK", 2);
}

static bool open_zip(sid2_source *source, const sid2_location *at, const sid2_dataset_options *options,
                     sid2_error *err)
{
    const char *path = at->path;
    archive *a = calloc(1, sizeof *a);
    if (!a || !(a->path = strdup(path))) {
        free(a);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", path);
    }
    pthread_mutex_init(&a->lock, NULL);
    source->kind = "zip";
    source->type = sid2_picture_type;
    source->load = load;
    source->tell = tell;
    source->close = close_zip;
    source->state = a;
    size_t size;
    int code = 0, descriptor = sid2_file_open(path, 0, &size, err);
    if (descriptor < 0) return false;
    a->zip = zip_fdopen(descriptor, 0, &code);
    if (!a->zip) {
        zip_error_t cause;
        zip_error_init_with_code(&cause, code);
        close(descriptor);
        sid2_zip_fail(path, &cause, err);
        if (err && err->code == SID2_ERR_FORMAT)
            sid2_fail(err, SID2_ERR_FORMAT, "%s: cut short, damaged or no zip archive: %s", path,
                      zip_error_strerror(&cause));
        zip_error_fini(&cause);
        return false;
    }
    if (!list_members(source, err)) return false;
    bool exists;
    json_t *dataset = read_json(a, "dataset.json", &exists, err);
    if (!exists)
        return sid2_source_classify(source, common_folder(source), err) &&
               sid2_source_drop_unlabelled(source, options);
    if (!dataset) return false;
    json_t *labels = json_object_get(dataset, "labels");
    source->labels = calloc((size_t)source->count, sizeof *source->labels);
    int32_t classes = 1;
    bool ok = source->labels || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", path);
    if (ok && json_is_array(labels))
        ok = read_labels(source, labels, &classes, err);
    else if (ok && !json_is_null(labels))
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s: dataset.json needs \"labels\", a list or null", path);
    ok = ok && name_classes(source, dataset, classes, err);
    json_decref(dataset);
    return ok;
}

const sid2_format sid2_format_zip = {.what = "a zip", .is_file = is_zip, .open = open_zip};
