/* Videos: a source whose samples are frames, run by run. Where they come from:
 *
 *   frames      pictures of one folder, or of one name up to its last number ("x/0001.png", "x.0001.png", "x_0001.png"), in a
 *               folder, zip or tars; in the order of their numbers
 *   y4m         in a folder or tars
 *   strips      PNGs of frames side by side, each as wide as high; where the first picture is as long as a clip
 *   npz         u8 [videos, frames, height, width, 1 or 3], in arr_0, videos or clips; labels in arr_1 or labels
 *
 * The class of a video is what x.cls or x.json says beside frames x.0001.png, else the first folder where there is one above
 * all videos. A run called NAME@NUMBER is a piece of the video NAME. */
#include "arrays.h"
#include "json.h"
#include "resize.h"
#include "source.h"
#include "text.h"
#include "y4m.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SIDE = 8192, MOST_BESIDE = 1 << 24 /* bytes */ };

typedef enum kind { FRAMES, Y4M, STRIPS, NPZ } kind;

/* Frames that follow one another. */
typedef struct run {
    const sid2_entry *entry; /* its file, or its first frame's */
    size_t length;           /* of the entry's name, as far as it is this run's */
    int64_t first, count;    /* of the source's frames */
} run;

typedef struct frame {
    const sid2_entry *entry;
    uint64_t place; /* y4m: of its planes in the file; strips and npz: its number there */
} frame;

typedef struct state {
    kind kind;
    frame *frames; /* of the source's count */
    int64_t room;
    run *runs;
    int64_t count, runs_room;
    sid2_y4m *y4m; /* of each run; NULL: no y4m */

    sid2_member *member; /* of an npz */
    sid2_array array;    /* [videos, frames, height, width, channels] */
} state;

static bool no_memory(const sid2_source *source, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list of frames", source->files->path);
}

/* ---- Filling ---- */

static bool add_run(sid2_source *source, const sid2_entry *entry, size_t length, sid2_error *err)
{
    state *s = source->state;
    if (s->count == s->runs_room) {
        int64_t room = 2 * s->runs_room + 64;
        run *runs = realloc(s->runs, (size_t)room * sizeof *runs);
        if (runs) s->runs = runs;
        sid2_y4m *y4m = s->kind == Y4M && runs ? realloc(s->y4m, (size_t)room * sizeof *y4m) : NULL;
        if (y4m) s->y4m = y4m;
        if (!runs || (s->kind == Y4M && !y4m)) return no_memory(source, err);
        s->runs_room = room;
    }
    s->runs[s->count++] = (run){.entry = entry, .length = length, .first = source->count};
    return true;
}

/* To the last run. */
static bool add_frame(sid2_source *source, const sid2_entry *entry, uint64_t place, sid2_error *err)
{
    state *s = source->state;
    if (source->count == INT32_MAX)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: more than 2^31 frames", source->files->path);
    if (!s->frames || source->count == s->room) {
        int64_t room = 2 * s->room + 64;
        frame *frames = realloc(s->frames, (size_t)room * sizeof *frames);
        if (!frames) return no_memory(source, err);
        s->frames = frames;
        s->room = room;
    }
    s->frames[source->count++] = (frame){entry, place};
    s->runs[s->count - 1].count++;
    return true;
}

/* ---- Pictures that are frames ---- */

/* How much of a name is the video's: up to the last number of what follows the last '/'. */
static size_t stem_of(const char *name)
{
    const char *base = sid2_base_name(name), *at = base + strlen(base);
    while (at > base && !(at[-1] >= '0' && at[-1] <= '9')) at--;
    while (at > base && at[-1] >= '0' && at[-1] <= '9') at--;
    return (size_t)(at - name);
}

static size_t folder_of(const char *name) { return (size_t)(sid2_base_name(name) - name); }

static bool share(const sid2_entry *a, const sid2_entry *b, size_t (*part)(const char *name))
{
    size_t length = part(a->name);
    return a->archive == b->archive && part(b->name) == length && !memcmp(a->name, b->name, length);
}

static int by_part(const void *a, const void *b, size_t (*part)(const char *name))
{
    const sid2_entry *x = *(const sid2_entry *const *)a, *y = *(const sid2_entry *const *)b;
    if (x->archive != y->archive) return x->archive < y->archive ? -1 : 1;
    size_t m = part(x->name), n = part(y->name);
    int order = memcmp(x->name, y->name, m < n ? m : n);
    if (order || m != n) return order ? order : (m > n) - (m < n);
    order = strverscmp(x->name + m, y->name + n); /* frame10 after frame9 */
    return order ? order : strcmp(x->name, y->name);
}

static int by_folder(const void *a, const void *b) { return by_part(a, b, folder_of); }
static int by_stem(const void *a, const void *b) { return by_part(a, b, stem_of); }

/* The pictures of one folder: one run for each stem, but where no two share one, one for all. */
static bool add_folder(sid2_source *source, const sid2_entry **picture, int64_t count, sid2_error *err)
{
    int64_t stems = 1;
    qsort(picture, (size_t)count, sizeof *picture, by_stem);
    for (int64_t i = 1; i < count; i++) stems += !share(picture[i - 1], picture[i], stem_of);
    if (stems == count) qsort(picture, (size_t)count, sizeof *picture, by_folder);
    bool parted = stems > 1 && stems < count, ok = true;
    for (int64_t i = 0; ok && i < count; i++) {
        const char *name = picture[i]->name;
        size_t folder = folder_of(name);
        if (i == 0 || (parted && !share(picture[i - 1], picture[i], stem_of)))
            ok = add_run(source, picture[i], parted || !folder ? stem_of(name) : folder - 1, err);
        ok = ok && add_frame(source, picture[i], 0, err);
    }
    return ok;
}

/* ---- Strips ---- */

enum { PNG_HEAD = 24 }; /* bytes up to its width and height */

/* False where there are not so many. Of a compressed member all is read. */
static bool read_head(sid2_files *files, const sid2_entry *entry, uint8_t head[PNG_HEAD])
{
    if (entry->size < PNG_HEAD) return false;
    if (files->read_at) return files->read_at(files, entry, head, PNG_HEAD, 0, NULL);
    size_t size;
    uint8_t *bytes = files->read(files, entry, SID2_IMAGE_MAX_FILE, &size, NULL);
    bool ok = bytes && size >= PNG_HEAD;
    if (ok) memcpy(head, bytes, PNG_HEAD);
    free(bytes);
    return ok;
}

/* Frames side by side in a PNG, from its head alone; 0: it has none, or is no PNG. */
static int64_t strip_frames(sid2_files *files, const sid2_entry *entry)
{
    uint8_t head[PNG_HEAD];
    int64_t side[2] = {0};
    if (read_head(files, entry, head) && !memcmp(head, "\x89PNG\r\n\x1a\n", 8))
        for (int i = 0; i < 8; i++) side[i / 4] = side[i / 4] << 8 | head[16 + i];
    return side[1] > 0 && side[0] <= SID2_IMAGE_MAX_SIDE && side[0] % side[1] == 0 ? side[0] / side[1] : 0;
}

static bool add_strips(sid2_source *source, const sid2_entry **picture, int64_t count, sid2_error *err)
{
    bool ok = true;
    for (int64_t i = 0; ok && i < count; i++) {
        int64_t frames = strip_frames(source->files, picture[i]);
        if (!frames) {
            ok = sid2_source_lose(source, SID2_LOST_BROKEN, picture[i], err);
            continue;
        }
        const char *dot = strrchr(picture[i]->name, '.');
        ok = add_run(source, picture[i], (size_t)(dot - picture[i]->name), err);
        for (int64_t k = 0; ok && k < frames; k++) ok = add_frame(source, picture[i], (uint64_t)k, err);
    }
    return ok;
}

/* ---- y4m ---- */

/* The line at `place`, with its end, or nothing where there is none of that length. */
static size_t read_line(sid2_files *files, const sid2_entry *entry, uint64_t place, char line[SID2_Y4M_LINE],
                        sid2_error *err)
{
    uint64_t left = entry->size - place;
    size_t size = left < SID2_Y4M_LINE ? (size_t)left : SID2_Y4M_LINE;
    if (!files->read_at(files, entry, line, size, place, err)) return 0;
    const char *end = memchr(line, '\n', size);
    if (!end) sid2_fail(err, SID2_ERR_FORMAT, "%s: y4m: a line does not end", entry->name);
    return end ? (size_t)(end + 1 - line) : 0;
}

/* A file that ends in a frame keeps those before; one whose head is none is left out. */
static bool add_y4m(sid2_source *source, const sid2_entry *entry, sid2_error *err)
{
    state *s = source->state;
    sid2_files *files = source->files;
    char line[SID2_Y4M_LINE];
    sid2_error cause = {0};
    sid2_y4m y = {0};
    size_t length = entry->size ? read_line(files, entry, 0, line, &cause) : 0;
    bool ok = length && sid2_y4m_head(&y, line, length, entry->name, &cause);
    if (!ok && (cause.code == SID2_ERR_IO || cause.code == SID2_ERR_MEMORY || files->choice))
        return sid2_fail(err, cause.code ? cause.code : SID2_ERR_FORMAT, "%s",
                         cause.code ? cause.message : "the file is empty");
    if (!ok) return sid2_source_lose(source, SID2_LOST_BROKEN, entry, err);
    if (!add_run(source, entry, strlen(entry->name) - 4, err)) return false;
    s->y4m[s->count - 1] = y;
    uint64_t place = length;
    while (ok && place < entry->size) {
        length = read_line(files, entry, place, line, &cause);
        if (!length || !sid2_y4m_is_frame(line, length) || entry->size - place - length < y.frame_bytes) {
            if (cause.code == SID2_ERR_IO) return sid2_fail(err, cause.code, "%s", cause.message);
            ok = sid2_source_lose(source, SID2_LOST_BROKEN, entry, err);
            break;
        }
        ok = add_frame(source, entry, place + length, err);
        place += length + y.frame_bytes;
    }
    if (!s->runs[s->count - 1].count) s->count--;
    return ok;
}

/* ---- An npz ---- */

static const sid2_entry *find_array(const sid2_files *files)
{
    static const char *const names[] = {"arr_0.npy", "videos.npy", "clips.npy"};
    const sid2_entry *entry = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names && !entry; i++)
        entry = sid2_files_find(files, names[i], 0);
    for (int64_t i = 0; i < files->count && !entry; i++)
        if (sid2_text_ends(files->entry[i].name, ".npy")) entry = &files->entry[i];
    return entry;
}

static const sid2_entry *find_labels(const sid2_files *files)
{
    const sid2_entry *entry = sid2_files_find(files, "arr_1.npy", 0);
    return entry ? entry : sid2_files_find(files, "labels.npy", 0);
}

static bool open_npz(sid2_source *source, int32_t *frames, sid2_error *err)
{
    state *s = source->state;
    sid2_files *files = source->files;
    const sid2_entry *entry = find_array(files);
    if (!entry) return sid2_fail(err, SID2_ERR_FORMAT, "%s: holds no array", files->path);
    s->kind = NPZ;
    s->member = sid2_member_open(files, entry, err);
    sid2_array *a = &s->array;
    if (!s->member || !sid2_array_head(a, s->member, entry->name, entry->size, err)) return false;
    if (strcmp(a->type, "|u1") != 0 || a->rank != 5 || (a->dim[4] != 1 && a->dim[4] != 3))
        return sid2_fail(
            err, SID2_ERR_UNSUPPORTED,
            "%s: %s: an array of %s with %d extents; clips are u8 [N, frames, height, width, 1 or 3]",
            files->path, entry->name, a->type, a->rank);
    if (a->dim[0] < 1 || a->dim[1] < 1 || a->dim[2] < 1 || a->dim[3] < 1 || a->dim[2] > MOST_SIDE ||
        a->dim[3] > MOST_SIDE)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: impossible extents", files->path, entry->name);
    uint64_t bytes = (uint64_t)(a->dim[2] * a->dim[3] * a->dim[4]);
    if ((entry->size - a->offset) / bytes / (uint64_t)a->dim[1] < (uint64_t)a->dim[0])
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: %s: cut short", files->path, entry->name);
    if (*frames < 0) *frames = a->dim[1] < SID2_CLIP_MOST_FRAMES ? (int32_t)a->dim[1] : SID2_CLIP_MOST_FRAMES;
    source->is_cheap = true;
    bool ok = true;
    for (int64_t v = 0; ok && v < a->dim[0]; v++) {
        ok = add_run(source, entry, 0, err);
        for (int64_t f = 0; ok && f < a->dim[1]; f++)
            ok = add_frame(source, entry, (uint64_t)(v * a->dim[1] + f), err);
    }
    return ok;
}

/* ---- Loading ---- */

static int64_t run_of(const state *s, int64_t index)
{
    int64_t low = 0, high = s->count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (s->runs[middle].first <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static bool load_file(sid2_files *files, const sid2_entry *entry, sid2_image *image, sid2_error *err)
{
    size_t size;
    uint8_t *bytes = files->read(files, entry, SID2_IMAGE_MAX_FILE, &size, err);
    bool ok = bytes && sid2_image_decode(image, bytes, size, entry->name, err);
    free(bytes);
    return ok;
}

static bool load_strip(sid2_files *files, const frame *f, sid2_image *image, sid2_error *err)
{
    sid2_image whole;
    if (!load_file(files, f->entry, &whole, err)) return false;
    int32_t side = whole.height;
    bool ok = ((int64_t)(f->place + 1) * side <= whole.width ||
               sid2_fail(err, SID2_ERR_FORMAT, "%s: is no strip of frames", f->entry->name)) &&
              sid2_image_alloc(image, side, side, whole.channels, err);
    size_t row = (size_t)side * (size_t)whole.channels, stride = (size_t)whole.width * (size_t)whole.channels;
    for (size_t y = 0; ok && y < (size_t)side; y++)
        memcpy(image->pixels + y * row, whole.pixels + y * stride + f->place * row, row);
    sid2_image_free(&whole);
    return ok;
}

static bool load_y4m(const sid2_source *source, int64_t index, const frame *f, sid2_image *image,
                     sid2_error *err)
{
    const state *s = source->state;
    const sid2_y4m *y = &s->y4m[run_of(s, index)];
    uint8_t *planes = malloc(y->frame_bytes);
    bool ok = (planes || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for a frame", f->entry->name)) &&
              source->files->read_at(source->files, f->entry, planes, y->frame_bytes, f->place, err) &&
              sid2_y4m_to_image(y, source->bt709 ? SID2_MATRIX_BT709 : SID2_MATRIX_BT601, planes, image, err);
    free(planes);
    return ok;
}

static bool load_array(const state *s, const frame *f, sid2_image *image, sid2_error *err)
{
    const int64_t *dim = s->array.dim;
    const uint64_t bytes = (uint64_t)(dim[2] * dim[3] * dim[4]);
    return sid2_image_alloc(image, (int32_t)dim[3], (int32_t)dim[2], (int32_t)dim[4], err) &&
           sid2_member_read(s->member, image->pixels, (size_t)bytes, s->array.offset + f->place * bytes, err);
}

static bool load(sid2_source *source, int64_t index, sid2_sample *sample, sid2_error *err)
{
    const state *s = source->state;
    const frame *f = &s->frames[index];
    sid2_image image = {0};
    bool ok = s->kind == FRAMES   ? load_file(source->files, f->entry, &image, err)
              : s->kind == Y4M    ? load_y4m(source, index, f, &image, err)
              : s->kind == STRIPS ? load_strip(source->files, f, &image, err)
                                  : load_array(s, f, &image, err);
    if (ok)
        *sample = sid2_sample_of_picture(&image);
    else
        sid2_image_free(&image);
    return ok;
}

/* Names, sizes and checksums; pixels are the caller's. */
static bool tell(const sid2_source *source, sid2_digest *stream, sid2_error *err)
{
    const state *s = source->state;
    (void)err;
    sid2_digest_add(stream, source->run, (size_t)source->count * sizeof *source->run);
    for (int64_t i = 0; i < source->count; i++) {
        const sid2_entry *e = s->frames[i].entry;
        if (i && e == s->frames[i - 1].entry) continue;
        sid2_digest_add(stream, e->name, strlen(e->name) + 1);
        sid2_digest_add(stream, &e->size, sizeof e->size);
        sid2_digest_add(stream, &e->checksum, sizeof e->checksum);
    }
    return true;
}

static char *name_of(const sid2_source *source, int64_t index)
{
    const state *s = source->state;
    const frame *f = &s->frames[index];
    char *name = NULL;
    if (s->kind == FRAMES) return strdup(f->entry->name);
    int64_t number = s->kind == STRIPS ? (int64_t)f->place : index - s->runs[run_of(s, index)].first;
    if (s->kind == NPZ)
        return asprintf(&name, "clip %lld, frame %lld", (long long)run_of(s, index), (long long)number) < 0
                   ? NULL
                   : name;
    return asprintf(&name, "%s, frame %lld", f->entry->name, (long long)number) < 0 ? NULL : name;
}

static void close_clips(sid2_source *source)
{
    state *s = source->state;
    if (!s) return;
    sid2_member_close(s->member);
    free(s->frames);
    free(s->runs);
    free(s->y4m);
    free(s);
}

/* ---- Videos and classes ---- */

/* A run's name is its file's as far as it goes; that of its video, without "@NUMBER". */
static size_t video_length(const run *r)
{
    size_t length = r->length, digits = 0;
    while (digits < length && r->entry->name[length - 1 - digits] >= '0' &&
           r->entry->name[length - 1 - digits] <= '9')
        digits++;
    bool is_piece = digits && digits < length && r->entry->name[length - 1 - digits] == '@';
    return is_piece ? length - 1 - digits : length;
}

static bool are_of_one_video(const run *a, const run *b)
{
    size_t length = video_length(a);
    bool is_piece = length < a->length && video_length(b) < b->length;
    return is_piece && a->entry->archive == b->entry->archive && video_length(b) == length &&
           !memcmp(a->entry->name, b->entry->name, length);
}

/* How much of all names is folders that hold all the others. */
static size_t common_root(const state *s)
{
    size_t root = 0;
    while (s->runs) {
        const char *first = s->runs[0].entry->name + root,
                   *slash = s->runs[0].length > root ? memchr(first, '/', s->runs[0].length - root) : NULL;
        if (!slash) return root;
        size_t next = root + (size_t)(slash + 1 - first);
        for (int64_t i = 1; i < s->count; i++)
            if (s->runs[i].length <= next ||
                memcmp(s->runs[i].entry->name, s->runs[0].entry->name, next) != 0)
                return root;
        root = next;
    }
    return root;
}

/* The class of each run as a text, where all have one; else none. */
static bool class_texts(sid2_source *source, sid2_list *texts, bool *are_labels, sid2_error *err)
{
    state *s = source->state;
    bool ok = true, all = true;
    char text[SID2_LONGEST_LABEL];
    *are_labels = true;
    for (int64_t i = 0; ok && all && i < s->count; i++) {
        ok = sid2_webdataset_label(text, source->files, s->runs[i].entry, err);
        all = text[0];
        ok = ok && (!all || sid2_list_push(texts, text, err));
    }
    if (!ok || (all && s->count)) return ok;
    *are_labels = false;
    sid2_list_free(texts);
    size_t root = common_root(s);
    all = true;
    for (int64_t i = 0; ok && all && i < s->count; i++) {
        const char *name = s->runs[i].entry->name + root;
        const char *slash = s->runs[i].length > root ? memchr(name, '/', s->runs[i].length - root) : NULL;
        all = slash;
        char *folder = slash ? strndup(name, (size_t)(slash - name)) : NULL;
        ok = !slash || (folder ? sid2_list_push(texts, folder, err) : no_memory(source, err));
        free(folder);
    }
    if (ok && !all) sid2_list_free(texts);
    return ok;
}

/* Labels of runs, then of frames. */
static bool classify(sid2_source *source, sid2_error *err)
{
    state *s = source->state;
    sid2_list texts = {0};
    bool are_labels = false, ok = s->kind == NPZ || class_texts(source, &texts, &are_labels, err);
    const sid2_entry *labels = s->kind == NPZ ? find_labels(source->files) : NULL;
    ok = ok && (texts.count ? (source->labels = calloc(texts.count, sizeof *source->labels)) &&
                                  sid2_source_label(source, &texts, are_labels, err)
                            : sid2_source_read_labels(source, labels, s->count, "videos", err));
    if (!ok && texts.count && !source->labels) no_memory(source, err);
    sid2_list_free(&texts);
    size_t count = (size_t)source->count;
    int32_t *of_run = source->labels, video = -1;
    if (!ok) return false;
    source->labels = malloc(count * sizeof *source->labels);
    source->run = malloc(count * sizeof *source->run);
    source->video = malloc(count * sizeof *source->video);
    ok = (of_run && source->labels && source->run && source->video) || no_memory(source, err);
    for (int64_t i = 0; ok && i < s->count; i++) {
        const run *r = &s->runs[i];
        video += i == 0 || !are_of_one_video(r - 1, r);
        for (int64_t k = r->first; k < r->first + r->count; k++) {
            source->labels[k] = of_run[i];
            source->run[k] = (int32_t)i;
            source->video[k] = video;
        }
    }
    free(of_run);
    return ok;
}

/* What of a run's name tells it from others of its class. */
static char *name_within(const run *r, const char *class)
{
    char *name = strndup(r->entry->name, video_length(r)), *rest = name;
    size_t length = strlen(class);
    for (char *at = name; at && length; at = strchr(at, '/')) {
        at += *at == '/';
        if (strncmp(at, class, length) == 0 && at[length] == '/') {
            rest = at + length + 1;
            break;
        }
    }
    char *copy = name ? strdup(rest) : NULL;
    for (char *at = copy; at && *at; at++)
        if (*at == '/') *at = '_';
    free(name);
    return copy;
}

char *sid2_source_clip_name(const sid2_source *source, int64_t index)
{
    const state *s = source->state;
    const int64_t number = run_of(s, index);
    const run *r = &s->runs[number];
    const char *class = source->classes > 1 ? source->class_names[source->labels[index]] : "";
    char *video = NULL, *name = NULL;
    size_t length = video_length(r);
    long long first = index - r->first;
    if (length < r->length) first += strtoll(r->entry->name + length + 1, NULL, 10);
    if (s->kind != NPZ)
        video = name_within(r, class);
    else if (asprintf(&video, "%06lld", (long long)number) < 0)
        video = NULL;
    if (!video ||
        asprintf(&name, "%s%s%s@%08lld", class, *class ? "/" : "", *video ? video : "video", first) < 0)
        name = NULL;
    free(video);
    return name;
}

uint8_t *sid2_source_read_beside(const sid2_source *source, int64_t index, const char *name, size_t *size,
                                 int64_t *first, sid2_error *err)
{
    const state *s = source->state;
    const sid2_entry *own = s->frames[index].entry;
    const sid2_entry *found =
        s->kind == FRAMES ? sid2_files_beside(source->files, own, folder_of(own->name), name) : NULL;
    *first = index - s->runs[run_of(s, index)].first;
    if (found) return source->files->read(source->files, found, MOST_BESIDE, size, err);
    return sid2_fail(err, SID2_ERR_USAGE, "%s: has no %s beside its frames", source->files->path, name), NULL;
}

/* Frames a second, of the first video: as its y4m says, or its clip.json; unknown where that is not there, or of another kind.
 * No memory and a failing disk are errors. */
static bool find_rate(sid2_source *source, sid2_error *err)
{
    const state *s = source->state;
    sid2_error cause = {0};
    size_t size;
    int64_t first;
    int rate[2];
    if (s->kind == Y4M) memcpy(source->rate, s->y4m[0].rate, sizeof source->rate);
    char *bytes = (char *)sid2_source_read_beside(source, 0, "clip.json", &size, &first, &cause);
    json_t *json = bytes ? sid2_json_parse(bytes, size, 0, "clip.json", &cause) : NULL;
    if (json && !json_unpack(json, "{s:[i,i]}", "rate", &rate[0], &rate[1]) && rate[0] > 0 && rate[1] > 0)
        memcpy(source->rate, rate, sizeof source->rate);
    json_decref(json);
    free(bytes);
    return (cause.code != SID2_ERR_MEMORY && cause.code != SID2_ERR_IO) ||
           sid2_fail(err, cause.code, "%s", cause.message);
}

/* ---- Opening ---- */

static bool is_about(const char *name)
{
    return sid2_text_ends(name, ".json") || sid2_text_ends(name, ".cls");
}

static bool is_y4m(const char *name) { return sid2_text_ends(name, ".y4m"); }

static bool list_files(sid2_source *source, int32_t frames, const sid2_entry **picture, sid2_error *err)
{
    sid2_files *files = source->files;
    state *s = source->state;
    int64_t pictures = 0, films = 0;
    bool ok = true;
    for (int64_t i = 0; ok && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        bool wanted = !files->choice || strcmp(e->name, files->choice) == 0;
        if (wanted && sid2_is_picture_name(e->name) && e->size)
            picture[pictures++] = e;
        else if (wanted && is_y4m(e->name) && files->read_at)
            films++;
        else if (!files->choice && !is_about(e->name))
            ok = sid2_source_lose(source, e->size ? SID2_LOST_KIND : SID2_LOST_EMPTY, e, err);
    }
    s->kind = films ? Y4M : FRAMES;
    for (int64_t i = 0; ok && films && i < files->count; i++) {
        const sid2_entry *e = &files->entry[i];
        bool wanted = !files->choice || strcmp(e->name, files->choice) == 0;
        if (wanted && is_y4m(e->name)) ok = add_y4m(source, e, err);
    }
    if (films || !ok) {
        for (int64_t i = 0; ok && i < pictures; i++)
            ok = sid2_source_lose(source, SID2_LOST_KIND, picture[i], err);
        return ok;
    }
    qsort(picture, (size_t)pictures, sizeof *picture, by_folder);
    if (pictures && (files->choice || strip_frames(files, picture[0]) >= (frames < 2 ? 2 : frames))) {
        s->kind = STRIPS;
        return add_strips(source, picture, pictures, err);
    }
    for (int64_t first = 0, end; ok && first < pictures; first = end) {
        for (end = first + 1; end < pictures && share(picture[first], picture[end], folder_of);) end++;
        ok = add_folder(source, picture + first, end - first, err);
    }
    return ok;
}

static bool open_files(sid2_source *source, int32_t *frames, sid2_error *err)
{
    sid2_files *files = source->files;
    bool is_npz = strcmp(files->kind, "zip") == 0 && sid2_text_ends(files->path, ".npz");
    if (is_npz) return open_npz(source, frames, err);
    if (sid2_files_hold_tars(files) && !sid2_files_open_tars(files, err)) return false;
    if (*frames < 0) *frames = SID2_CLIP_FRAMES;
    const sid2_entry **picture = malloc(((size_t)files->count + 1) * sizeof *picture);
    bool ok = picture ? list_files(source, *frames, picture, err) : no_memory(source, err);
    free(picture);
    return ok;
}

bool sid2_source_open_clips(sid2_source *source, const char *path, int32_t *frames, sid2_group *group,
                            sid2_error *err)
{
    *source = (sid2_source){.files = sid2_files_open(path, group, err)};
    if (!source->files) return false;
    state *s = calloc(1, sizeof *s);
    source->state = s;
    source->close = close_clips;
    source->load = load;
    source->tell = tell;
    source->name = name_of;
    source->type = sid2_picture_type;
    sid2_error cause = {0};
    bool ok = (s || no_memory(source, &cause)) && open_files(source, frames, &cause);
    if (ok && !source->count)
        ok = sid2_fail(
            &cause, SID2_ERR_FORMAT,
            "holds no clips: neither folders of frames (.png, .jpg, .webp), nor strips, y4m or an npz of "
            "clips");
    ok = ok && classify(source, &cause) && find_rate(source, &cause);
    if (ok) {
        static const char *const kinds[] = {
            [FRAMES] = "frames", [Y4M] = "y4m", [STRIPS] = "strips", [NPZ] = "npz"};
        source->kind = kinds[s->kind];
        return true;
    }
    if (strstr(cause.message, path))
        sid2_fail(err, cause.code, "%s", cause.message);
    else
        sid2_fail(err, cause.code, "%s: %s", path, cause.message);
    sid2_source_close(source);
    return false;
}
