#include "source.h"

#include "file.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- Picture files ---- */

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    sid2_files *files = source->files;
    const sid2_entry *entry = source->entry[index];
    sid2_image image;
    size_t size;
    uint8_t *bytes = files->read(files, entry, SID2_IMAGE_MAX_FILE, &size, err);
    bool ok = bytes && sid2_image_decode(&image, bytes, size, entry->name, err);
    free(bytes);
    if (ok) *sample = sid2_sample_of_picture(&image);
    return ok;
}

void sid2_source_of_pictures(sid2_source *source)
{
    source->kind = source->files->kind;
    source->type = sid2_picture_type;
    source->load = load;
    source->tell = sid2_source_tell;
}

bool sid2_source_try_again(int *attempt, const sid2_error *cause)
{
    enum { ATTEMPTS = 4 };
    if (cause->code != SID2_ERR_IO || ++*attempt == ATTEMPTS) return false;
    nanosleep(&(struct timespec){.tv_nsec = 5000000L << 2 * *attempt}, NULL); /* 20, 80, 320 ms */
    return true;
}

bool sid2_source_tell(const sid2_source *source, sid2_digest *stream, sid2_error *err)
{
    enum { MOST_READ = 1 << 28 /* bytes */ };
    sid2_files *files = source->files;
    int64_t count = source->entry ? source->count : files->count;
    uint64_t unknown = 0; /* bytes without a checksum */
    for (int64_t i = 0; i < count; i++) {
        const sid2_entry *e = source->entry ? source->entry[i] : &files->entry[i];
        sid2_digest_add(stream, e->name, strlen(e->name) + 1);
        sid2_digest_add(stream, &e->size, sizeof e->size);
        sid2_digest_add(stream, &e->checksum, sizeof e->checksum);
        if (!e->checksum) unknown += e->size;
    }
    int64_t step = 1 + (int64_t)(unknown / MOST_READ);
    for (int64_t i = 0; unknown && i < count; i += step) {
        const sid2_entry *e = source->entry ? source->entry[i] : &files->entry[i];
        size_t size;
        uint8_t *bytes = NULL;
        sid2_error cause;
        int attempt = 0;
        do {
            cause = (sid2_error){0};
            if (!e->checksum) bytes = files->read(files, e, SID2_IMAGE_MAX_FILE, &size, &cause);
        } while (sid2_source_try_again(&attempt, &cause));
        if (bytes) sid2_digest_add(stream, bytes, size);
        free(bytes);
        if (cause.code && cause.code != SID2_ERR_FORMAT)
            return sid2_fail(err, cause.code, "%s", cause.message);
    }
    return true;
}

bool sid2_source_lose(sid2_source *source, sid2_reason reason, const sid2_entry *entry, sid2_error *err)
{
    return sid2_losses_add(&source->files->losses, reason, entry->name, err);
}

/* What git puts in the place of a large file that it has not fetched. */
static bool is_pointer(sid2_source *source, const sid2_entry *entry)
{
    enum { MOST = 512 };
    static const char start[] = "version https://git-lfs";
    size_t size;
    uint8_t *bytes =
        entry->size <= MOST ? source->files->read(source->files, entry, MOST, &size, NULL) : NULL;
    bool is_one = bytes && size >= sizeof start && !memcmp(bytes, start, sizeof start - 1);
    free(bytes);
    return is_one;
}

bool sid2_source_add_picture(sid2_source *source, const sid2_entry *entry, int32_t label, sid2_error *err)
{
    if (entry->size == 0) return sid2_source_lose(source, SID2_LOST_EMPTY, entry, err);
    if (is_pointer(source, entry)) return sid2_source_lose(source, SID2_LOST_POINTER, entry, err);
    if (source->count == source->room) {
        int64_t room = 2 * source->room + 64;
        int32_t *labels = realloc(source->labels, (size_t)room * sizeof *labels);
        if (labels) source->labels = labels;
        const sid2_entry **grown = realloc(source->entry, (size_t)room * sizeof *grown);
        if (grown) source->entry = grown;
        if (!labels || !grown)
            return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of pictures",
                             source->files->path);
        source->room = room;
    }
    source->labels[source->count] = label;
    source->entry[source->count++] = entry;
    return true;
}

const sid2_sample_type sid2_picture_type = {.dtype = SID2_U8, .shape = {.rank = 3}};

sid2_sample sid2_sample_of_picture(sid2_image *image)
{
    sid2_sample sample = {
        .type = {SID2_U8, {.rank = 3, .dim = {image->height, image->width, image->channels}}},
        .values = image->pixels,
        .orientation = image->orientation};
    *image = (sid2_image){0};
    return sample;
}

/* ---- Classes ---- */

bool sid2_source_name_classes(sid2_source *source, int64_t count, const char *const *names, int64_t known,
                              sid2_error *err)
{
    if (count > SID2_MAX_CLASSES)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: more than %d classes", source->files->path,
                         SID2_MAX_CLASSES);
    source->class_names = calloc((size_t)count + 1, sizeof *source->class_names);
    if (!source->class_names) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for class names");
    for (; source->classes < count; source->classes++) {
        char number[16];
        int32_t i = source->classes;
        sprintf(number, "%d", i);
        const char *name = i < known && names[i] && names[i][0] ? names[i] : number;
        source->class_names[i] = sid2_text_nfc(name);
        if (!source->class_names[i]) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for class names");
    }
    return true;
}

/* ---- The formats ---- */

static const sid2_format *const formats[] = {
#define FORMAT(word) &sid2_format_##word,
#include "formats.def"
};
enum { FORMAT_COUNT = sizeof formats / sizeof formats[0] };

const char *sid2_dataset_formats(char text[256])
{
    text[0] = 0;
    for (int i = 0; i < FORMAT_COUNT; i++) {
        size_t used = strlen(text);
        snprintf(text + used, 256 - used, "%s%s",
                 i == 0                 ? ""
                 : i + 1 < FORMAT_COUNT ? ", "
                                        : " or ",
                 formats[i]->what);
    }
    return text;
}

void sid2_source_close(sid2_source *source)
{
    if (source->close) source->close(source);
    for (int32_t i = 0; i < source->classes; i++) free(source->class_names[i]);
    free(source->class_names);
    free(source->labels);
    free(source->run);
    free(source->video);
    free(source->entry);
    sid2_files_close(source->files);
    *source = (sid2_source){0};
}

static bool recognise(sid2_source *source, sid2_error *err)
{
    for (int i = 0; i < FORMAT_COUNT; i++) {
        if (!formats[i]->open(source, err)) return false;
        if (source->load) return true;
    }
    return true;
}

/* Why nothing was found, and what there is instead. */
static bool refuse(const sid2_files *files, sid2_error *err)
{
    char list[256];
    if (files->choice)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: not a data set: give %s", files->path,
                         sid2_dataset_formats(list));
    char *text = NULL;
    for (int i = 0; i < SID2_REASONS && !text; i++) text = sid2_losses_text(&files->losses, (sid2_reason)i);
    sid2_fail(err, SID2_ERR_FORMAT, "%s: no PNG, JPEG or WebP pictures in this %s%s%s", files->path,
              strcmp(files->kind, "folder") ? "archive" : "folder or below", text ? "; it holds " : "",
              text ? text : "");
    free(text);
    return false;
}

bool sid2_source_open(sid2_source *source, const char *path, sid2_group *group, sid2_error *err)
{
    *source = (sid2_source){.files = sid2_files_open(path, group, err)};
    if (!source->files) return false;
    sid2_error cause = {0};
    bool ok = recognise(source, &cause);
    if (ok && !source->load && sid2_files_hold_tars(source->files))
        ok = sid2_files_open_tars(source->files, &cause) && recognise(source, &cause);
    if (ok && (!source->load || !source->count)) ok = refuse(source->files, &cause);
    /* Formats name the file within; the path that it is in is named here. */
    if (!ok && strstr(cause.message, path))
        sid2_fail(err, cause.code, "%s", cause.message);
    else if (!ok)
        sid2_fail(err, cause.code, "%s: %s", path, cause.message);
    if (!ok) sid2_source_close(source);
    return ok;
}
