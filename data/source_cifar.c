/* CIFAR's binary version: records of one label byte (CIFAR-100: two, of which the second is the finer) and 3 x 32 x 32
 * pixels, channel after channel. In a folder, in the tar that it comes in, or one file. */
#include "source.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 32, PLANE = SIDE * SIDE, PIXELS = 3 * PLANE, MAX_FILES = 64, MOST_BYTES = 1 << 30 };

typedef struct batches {
    int labels; /* bytes of a record before its pixels */
    int file_count;
    struct {
        uint8_t *bytes;
        int64_t first; /* number of its first picture */
    } file[MAX_FILES];
} batches;

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    const batches *b = source->state;
    int f = b->file_count - 1;
    while (b->file[f].first > index) f--;
    const uint8_t *record = b->file[f].bytes + (index - b->file[f].first) * (b->labels + PIXELS) + b->labels;
    sid2_image image;
    if (!sid2_image_alloc(&image, SIDE, SIDE, 3, err)) return false;
    for (int i = 0; i < PLANE; i++)
        for (int c = 0; c < 3; c++) image.pixels[3 * i + c] = record[c * PLANE + i];
    *sample = sid2_sample_of_picture(&image);
    return true;
}

static void close_batches(sid2_source *source)
{
    batches *b = source->state;
    for (int f = 0; b && f < b->file_count; f++) free(b->file[f].bytes);
    free(b);
}

static bool add_file(sid2_source *source, const sid2_entry *entry, int classes, sid2_error *err)
{
    batches *b = source->state;
    const char *path = source->files->path, *name = entry->name;
    int record = b->labels + PIXELS;
    size_t size;
    if (b->file_count == MAX_FILES)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: more than %d batch files", path, MAX_FILES);
    if (entry->size == 0 || entry->size % (uint64_t)record)
        return sid2_fail(err, SID2_ERR_FORMAT,
                         "%s: %s: %lld bytes are not whole records of %d: cut short, or not CIFAR-%d", path,
                         name, (long long)entry->size, record, classes);
    uint8_t *bytes = source->files->read(source->files, entry, MOST_BYTES, &size, err);
    if (!bytes) return false;
    b->file[b->file_count].bytes = bytes;
    b->file[b->file_count++].first = source->count;
    int64_t records = (int64_t)(size / (size_t)record);
    int32_t *labels = realloc(source->labels, (size_t)(source->count + records + 1) * sizeof *labels);
    if (!labels) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for labels", path);
    source->labels = labels;
    for (int64_t i = 0; i < records; i++) {
        int label = bytes[i * record + b->labels - 1];
        if (label >= classes)
            return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: record %lld has label %d: not a CIFAR-%d batch",
                             path, name, (long long)i, label, classes);
        labels[source->count + i] = label;
    }
    source->count += records;
    return true;
}

/* ---- Which of the files ---- */

static bool is_ten(const char *base)
{
    return !strncmp(base, "data_batch_", 11) && sid2_text_ends(base, ".bin");
}

/* A file in the same folder as another one. */
static const sid2_entry *beside(const sid2_files *files, const sid2_entry *entry, const char *base)
{
    return sid2_files_beside(files, entry, (size_t)(sid2_base_name(entry->name) - entry->name), base);
}

static bool is_hundred(const sid2_files *files, const sid2_entry *entry)
{
    return !strcmp(sid2_base_name(entry->name), "train.bin") && beside(files, entry, "fine_label_names.txt");
}

/* How many classes the file's format has; 0: it is none of these. */
static int classes_of(const sid2_files *files, const sid2_entry *entry)
{
    if (!files->choice) return is_ten(sid2_base_name(entry->name)) ? 10 : is_hundred(files, entry) ? 100 : 0;
    if (strcmp(entry->name, files->choice) != 0 || !sid2_text_ends(entry->name, ".bin")) return 0;
    return entry->size % (1 + PIXELS) && entry->size % (2 + PIXELS) == 0 ? 100 : 10;
}

static bool is_python(const sid2_files *files, const sid2_entry *entry)
{
    const char *base = sid2_base_name(entry->name);
    return (!strcmp(base, "data_batch_1") && beside(files, entry, "batches.meta")) ||
           (!strcmp(base, "train") && beside(files, entry, "meta") && beside(files, entry, "test"));
}

/* Lines of the file beside, where there is one. */
static bool name_classes(sid2_source *source, const sid2_entry *batch, int classes, sid2_error *err)
{
    static const char *const ten[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                      "dog",      "frog",       "horse", "ship", "truck"};
    enum { MOST_NAMES = 1 << 16 };
    const char *names[100] = {0};
    int64_t known = 0;
    const sid2_entry *list =
        beside(source->files, batch, classes == 10 ? "batches.meta.txt" : "fine_label_names.txt");
    size_t size;
    char *text = list ? (char *)source->files->read(source->files, list, MOST_NAMES, &size, err) : NULL;
    if (list && !text) return false;
    char *rest = NULL;
    for (char *line = text ? strtok_r(text, "\r\n", &rest) : NULL; line && known < classes;
         line = strtok_r(NULL, "\r\n", &rest))
        names[known++] = line;
    if (!known && classes == 10) memcpy(names, ten, sizeof ten), known = 10;
    bool ok = sid2_source_name_classes(source, classes, names, known, err);
    free(text);
    return ok;
}

static bool open_batches(sid2_source *source, sid2_error *err)
{
    const sid2_files *files = source->files;
    const sid2_entry *first = NULL;
    int classes = 0;
    for (int64_t i = 0; i < files->count && !classes; i++) {
        first = &files->entry[i];
        if (!files->choice && is_python(files, first))
            return sid2_fail(err, SID2_ERR_UNSUPPORTED,
                             "%s: CIFAR's Python version, whose files are pickles; take the binary version",
                             files->path);
        classes = classes_of(files, first);
    }
    if (!classes) return true;
    source->kind = classes == 10 ? "CIFAR-10" : "CIFAR-100";
    source->type = (sid2_sample_type){SID2_U8, {.rank = 3, .dim = {SIDE, SIDE, 3}}};
    source->is_cheap = true;
    source->load = load;
    source->close = close_batches;
    batches *b = source->state = calloc(1, sizeof *b);
    if (!b) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", files->path);
    b->labels = classes == 10 ? 1 : 2;
    size_t folder = (size_t)(sid2_base_name(first->name) - first->name);
    bool ok = true;
    for (int64_t i = 0; ok && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        const char *base = sid2_base_name(e->name);
        bool is_other = (size_t)(base - e->name) != folder || strncmp(e->name, first->name, folder) != 0;
        if (classes_of(files, e) == classes && is_other)
            ok = sid2_fail(err, SID2_ERR_USAGE,
                           "%s: holds several data sets (%s, %s): give one of their folders", files->path,
                           first->name, e->name);
        else if (classes_of(files, e) == classes)
            ok = add_file(source, e, classes, err);
        else if (!files->choice && (!strcmp(base, "test_batch.bin") || !strcmp(base, "test.bin")))
            ok = sid2_source_lose(source, SID2_LOST_TEST, e, err);
    }
    return ok && name_classes(source, first, classes, err);
}

const sid2_format sid2_format_cifar = {.what = "CIFAR-10 or -100 (binary version)", .open = open_batches};
