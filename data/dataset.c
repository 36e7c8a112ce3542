#include "dataset.h"

#include "cache.h"
#include "digest.h"
#include "philox.h"
#include "resize.h"
#include "source.h"
#include "text.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIZE = 8192, DIGIT_SIDE = 28, DIGIT_MARGIN = 2 };

/* What is known of a picture. One thread fills a place in the cache (BUSY); others meanwhile decode for
 * themselves. */
enum { UNKNOWN, BUSY, CACHED, BROKEN };

struct sid2_dataset {
    sid2_dataset_options options;
    sid2_source source;
    bool owns; /* the source; else it is another part's */
    int64_t count;
    int64_t *chosen; /* picture numbers of the part, of clips those of their first frames; NULL: all */
    int32_t frames;  /* of a clip; 1: pictures */
    sid2_sample_type type;
    size_t picture_bytes;
    bool is_upright;
    sid2_cache *cache; /* NULL: none */
    atomic_uchar *known;
    atomic_llong broken;
    pthread_mutex_t report; /* over the call of on_skip, and over: */
    sid2_losses losses;     /* met while reading; the files' own are known from the start */
};

size_t sid2_sample_bytes(sid2_sample_type type)
{
    return (size_t)sid2_shape_count(type.shape) * sid2_dtype_size(type.dtype);
}

/* ---- The held-out part ---- */

typedef struct draw {
    uint64_t key;
    int64_t picture;
} draw;

static draw draw_of(int64_t picture)
{
    sid2_philox_block block = sid2_philox(0, (uint64_t)picture, SID2_PURPOSE_SPLIT, 0);
    return (draw){(uint64_t)block.word[0] << 32 | block.word[1], picture};
}

static int by_key(const void *a, const void *b)
{
    const draw *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->picture < y->picture ? -1 : 1;
}

static int64_t picture_number(const sid2_dataset *dataset, int64_t index)
{
    return dataset->chosen ? dataset->chosen[index] : index;
}

/* What is held out or not as a whole: a picture, or the video that a clip is of. */
static int64_t unit_of(const sid2_dataset *dataset, int64_t index)
{
    int64_t picture = picture_number(dataset, index);
    return dataset->source.video ? dataset->source.video[picture] : picture;
}

/* Whether clip `index` is the first of its video here; of pictures each is. */
static bool begins_unit(const sid2_dataset *dataset, int64_t index)
{
    return !index || unit_of(dataset, index) != unit_of(dataset, index - 1);
}

/* Each class keeps one picture to train on: the one that would be held out last. */
static bool keep_one_a_class(const sid2_dataset *dataset, bool *kept, int64_t *spared)
{
    const sid2_source *source = &dataset->source;
    draw *last = malloc(((size_t)source->classes + 1) * sizeof *last);
    if (!last) return false;
    for (int32_t k = 0; k < source->classes; k++) last[k] = (draw){0, -1};
    for (int64_t i = 0; i < dataset->count; i++) {
        if (!begins_unit(dataset, i)) continue;
        draw own = draw_of(unit_of(dataset, i)), *found = &last[source->labels[picture_number(dataset, i)]];
        if (found->picture < 0 || by_key(&own, found) > 0) *found = own;
    }
    *spared = 0;
    for (int32_t k = 0; k < source->classes; k++) {
        if (last[k].picture < 0) continue;
        kept[last[k].picture] = true;
        ++*spared;
    }
    free(last);
    return true;
}

/* A fraction holds out what draws below it; a number, the lowest draws. */
static bool choose_part(sid2_dataset *dataset, const char *path, sid2_error *err)
{
    const sid2_dataset_options *o = &dataset->options;
    const char *noun = dataset->source.video ? "video" : "picture";
    int64_t count = dataset->count, total = 0, spared = 0, drawn = 0;
    if (o->part == SID2_PART_ALL || (o->part == SID2_PART_TRAIN && o->holdout == 0)) return true;
    draw limit = {(uint64_t)ldexp(o->holdout < 1 ? o->holdout : 0, 64), 0};
    int64_t *left = malloc((size_t)count * sizeof *left);
    draw *draws = malloc((size_t)count * sizeof *draws);
    bool *kept = calloc((size_t)dataset->source.count, sizeof *kept);
    bool ok = (left && draws && kept && keep_one_a_class(dataset, kept, &spared)) ||
              sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory to choose %ss", path, noun);
    for (int64_t i = 0; ok && i < count; i++) {
        if (!begins_unit(dataset, i)) continue;
        total++;
        if (!kept[unit_of(dataset, i)]) draws[drawn++] = draw_of(unit_of(dataset, i));
    }
    if (ok && o->holdout >= 1 && o->holdout > (double)(total - spared))
        ok = sid2_fail(
            err, SID2_ERR_USAGE,
            "%s: a holdout of %g leaves not one %s of each class for training: at most %lld of its %lld",
            path, o->holdout, noun, (long long)(total - spared), (long long)total);
    if (ok && o->holdout >= 1) {
        qsort(draws, (size_t)drawn, sizeof *draws, by_key);
        limit = o->holdout < (double)drawn ? draws[(int64_t)o->holdout] : (draw){UINT64_MAX, INT64_MAX};
    }
    free(draws);
    int64_t found = 0;
    for (int64_t i = 0; ok && i < count; i++) {
        draw own = draw_of(unit_of(dataset, i));
        bool held_out = !kept[own.picture] && by_key(&own, &limit) < 0;
        if (held_out == (o->part == SID2_PART_HELDOUT)) left[found++] = picture_number(dataset, i);
    }
    free(kept);
    free(dataset->chosen);
    dataset->chosen = left;
    dataset->count = found;
    if (!ok || found) return ok;
    return sid2_fail(err, SID2_ERR_USAGE, "%s: a holdout of %g leaves no %s of its %lld for evaluation", path,
                     o->holdout, noun, (long long)total);
}

/* ---- Clips ---- */

/* The first frames of all clips of one run after the other, *count of them; `starts` may be NULL to count them. */
static int64_t list_clips(const sid2_dataset *dataset, int64_t *starts)
{
    const sid2_dataset_options *o = &dataset->options;
    const int32_t *run = dataset->source.run;
    int64_t span = (int64_t)(dataset->frames - 1) * o->stride + 1, hop = o->hop ? o->hop : span, count = 0;
    int64_t crops = o->crops ? o->crops : 1;
    for (int64_t first = 0, end; first < dataset->source.count; first = end) {
        for (end = first + 1; end < dataset->source.count && run[end] == run[first];) end++;
        int64_t room = end - first - span, clips = room < 0 ? 0 : o->windows ? o->windows : room / hop + 1;
        if (clips > room + 1 && o->windows) clips = room + 1;
        for (int64_t i = 0; i < clips * crops; i++, count++)
            if (starts)
                starts[count] =
                    first + (o->windows ? i / crops * room / (clips > 1 ? clips - 1 : 1) : i / crops * hop);
    }
    return count;
}

static bool find_clips(sid2_dataset *dataset, const char *path, sid2_error *err)
{
    dataset->count = list_clips(dataset, NULL);
    if (!dataset->count)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: of %lld videos none has %d frames%s", path,
                         (long long)sid2_dataset_videos(dataset), dataset->frames,
                         dataset->options.stride > 1 ? " at this stride" : "");
    dataset->chosen = malloc((size_t)dataset->count * sizeof *dataset->chosen);
    if (!dataset->chosen) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its clips", path);
    list_clips(dataset, dataset->chosen);
    return true;
}

int64_t sid2_dataset_video(const sid2_dataset *dataset, int64_t index) { return unit_of(dataset, index); }

int64_t sid2_dataset_videos(const sid2_dataset *dataset)
{
    const sid2_source *source = &dataset->source;
    return source->video && source->count ? source->video[source->count - 1] + 1 : 0;
}

void sid2_dataset_rate(const sid2_dataset *dataset, int32_t rate[2])
{
    memcpy(rate, dataset->source.rate, sizeof dataset->source.rate);
}

/* ---- Opening ---- */

static bool prepare(sid2_dataset *dataset, const char *path, sid2_error *err)
{
    const sid2_dataset_options *o = &dataset->options;
    int64_t total = dataset->source.count;
    const sid2_sample_type picture = {SID2_U8, sid2_shape_of(o->height, o->width, o->channels)},
                           clip = {SID2_U8, sid2_shape_of(o->frames, o->height, o->width, o->channels)};
    dataset->count = total;
    dataset->frames = o->frames ? o->frames : 1;
    dataset->type = o->frames ? clip : picture;
    dataset->picture_bytes = sid2_sample_bytes(picture);
    if ((o->frames && !find_clips(dataset, path, err)) || !choose_part(dataset, path, err)) return false;
    dataset->known = calloc((size_t)total, sizeof *dataset->known);
    if (!dataset->known) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its list", path);
    dataset->is_upright = o->upright ? o->upright == SID2_UPRIGHT_YES : dataset->source.is_photos;
    if (!dataset->source.is_cheap && o->cache_bytes > 1 && o->crops < 2)
        dataset->cache = sid2_cache_open(total, dataset->picture_bytes, o->cache_bytes);

    uint8_t *pixels = malloc(sid2_sample_bytes(dataset->type));
    if (!pixels) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for a picture", path);
    sid2_error cause = {0};
    bool ok = sid2_dataset_get(dataset, 0, false, pixels, NULL, &cause);
    free(pixels);
    return ok || sid2_fail(err, cause.code, "%s: %s", path, cause.message);
}

static bool fill_options(sid2_dataset_options *o, sid2_error *err)
{
    if (o->size == 0) o->size = 32;
    if (o->height == 0) o->height = o->size;
    if (o->width == 0) o->width = o->size;
    o->size = o->height > o->width ? o->height : o->width;
    if (o->channels == 0) o->channels = 3;
    if (o->cache_bytes == 0) o->cache_bytes = (size_t)1 << 30;
    if (o->stride == 0) o->stride = 1;
    if (o->frames > SID2_CLIP_MOST_FRAMES || o->stride < 1 || o->hop < 0 || o->windows < 0 || o->crops < 0 ||
        o->crops > 9)
        return sid2_fail(err, SID2_ERR_USAGE, "clips of %d frames, a stride of %d, a hop of %d", o->frames,
                         o->stride, o->hop);
    if (o->height < 1 || o->width < 1 || o->size > MAX_SIZE)
        return sid2_fail(err, SID2_ERR_USAGE, "a picture of %dx%d is outside 1..%d", o->height, o->width,
                         MAX_SIZE);
    if (o->channels != 1 && o->channels != 3)
        return sid2_fail(err, SID2_ERR_USAGE, "%d channels: pictures have 1 or 3", o->channels);
    return (o->holdout >= 0 && o->holdout < 0x1p53) ||
           sid2_fail(err, SID2_ERR_USAGE, "a holdout of %g is neither fraction nor number", o->holdout);
}

static bool is_picture(sid2_sample_type type) { return type.dtype == SID2_U8 && type.shape.rank == 3; }

static sid2_dataset *create(sid2_source *source, bool owns, const char *name, sid2_dataset_options options,
                            sid2_error *err)
{
    char shape[64];
    sid2_dataset *dataset = calloc(1, sizeof *dataset);
    if (!dataset) {
        if (owns) sid2_source_close(source);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name), NULL;
    }
    dataset->source = *source;
    dataset->owns = owns;
    pthread_mutex_init(&dataset->report, NULL);
    bool ok = fill_options(&options, err);
    dataset->options = options;
    if (ok && !is_picture(source->type))
        ok = sid2_fail(err, SID2_ERR_UNSUPPORTED,
                       "%s: samples are %s %s, where pictures are needed, u8 rows x columns x channels", name,
                       sid2_dtype_name(source->type.dtype), sid2_shape_text(source->type.shape, shape));
    if (ok && prepare(dataset, name, err)) return dataset;
    sid2_dataset_close(dataset);
    return NULL;
}

sid2_dataset *sid2_dataset_adopt(sid2_source *source, const char *name, sid2_dataset_options options,
                                 sid2_error *err)
{
    return create(source, true, name, options, err);
}

sid2_dataset *sid2_dataset_open_together(sid2_group *group, const char *path,
                                         const sid2_dataset_options *given, sid2_error *err)
{
    sid2_source source;
    sid2_dataset_options options;
    if (!sid2_take_options(&options, given, sid2_dataset_options, err) || !fill_options(&options, err) ||
        !(options.frames ? sid2_source_open_clips(&source, path, &options.frames, group, err)
                         : sid2_source_open(&source, path, group, err)))
        return NULL;
    source.bt709 = options.bt709;
    return sid2_dataset_adopt(&source, path, options, err);
}

sid2_dataset *sid2_dataset_open(const char *path, const sid2_dataset_options *options, sid2_error *err)
{
    return sid2_dataset_open_together(NULL, path, options, err);
}

sid2_dataset *sid2_dataset_part_of(const sid2_dataset *whole, const char *name, sid2_part part,
                                   sid2_error *err)
{
    sid2_dataset_options options = whole->options;
    sid2_source source = whole->source;
    options.part = part;
    return create(&source, false, name, options, err);
}

void sid2_dataset_close(sid2_dataset *dataset)
{
    if (!dataset) return;
    if (dataset->owns) sid2_source_close(&dataset->source);
    pthread_mutex_destroy(&dataset->report);
    free(dataset->chosen);
    sid2_cache_close(dataset->cache);
    sid2_losses_free(&dataset->losses);
    free(dataset->known);
    free(dataset);
}

int64_t sid2_dataset_count(const sid2_dataset *dataset) { return dataset->count; }
int32_t sid2_dataset_classes(const sid2_dataset *dataset) { return dataset->source.classes; }
sid2_sample_type sid2_dataset_type(const sid2_dataset *dataset) { return dataset->type; }
int32_t sid2_dataset_size(const sid2_dataset *dataset) { return dataset->options.size; }
int32_t sid2_dataset_channels(const sid2_dataset *dataset) { return dataset->options.channels; }
const char *sid2_dataset_kind(const sid2_dataset *dataset) { return dataset->source.kind; }
const char *sid2_dataset_turning(const sid2_dataset *dataset)
{
    if (!dataset->source.entry) return NULL;
    return dataset->is_upright ? "turned upright as their EXIF asks (data.upright)"
                               : "not turned, whatever EXIF asks (data.upright)";
}

int64_t sid2_dataset_broken(const sid2_dataset *dataset) { return atomic_load(&dataset->broken); }

const char *sid2_dataset_class_name(const sid2_dataset *dataset, int32_t label)
{
    return label >= 0 && label < dataset->source.classes ? dataset->source.class_names[label] : "?";
}

sid2_classes *sid2_dataset_names(const sid2_dataset *dataset, sid2_error *err)
{
    return sid2_classes_create((const char *const *)dataset->source.class_names, dataset->source.classes,
                               err);
}

static bool load(sid2_source *source, int64_t picture, sid2_sample *sample, sid2_error *err)
{
    sid2_error cause;
    for (int attempt = 0;;) {
        cause = (sid2_error){0};
        if (source->load(source, picture, sample, &cause)) return true;
        if (!sid2_source_try_again(&attempt, &cause)) return sid2_fail(err, cause.code, "%s", cause.message);
    }
}

/* Only such a picture is left out. */
static bool is_fault_of_picture(const sid2_error *cause)
{
    return cause->code == SID2_ERR_FORMAT || cause->code == SID2_ERR_UNSUPPORTED;
}

/* Of all pictures, or where each must be decoded first, of some. One that is no picture adds nothing. */
static bool digest_pixels(sid2_digest *stream, sid2_source *source, sid2_error *err)
{
    enum { DECODED = 64 };
    int64_t step = source->is_cheap ? 1 : (source->count + DECODED - 1) / DECODED;
    for (int64_t i = 0; i < source->count; i += step) {
        sid2_sample sample;
        sid2_error cause = {0};
        if (load(source, i, &sample, &cause)) {
            sid2_digest_add(stream, sample.values, sid2_sample_bytes(sample.type));
            free(sample.values);
        } else if (!is_fault_of_picture(&cause)) {
            return sid2_fail(err, cause.code, "%s", cause.message);
        }
    }
    return true;
}

bool sid2_dataset_digest(const sid2_dataset *dataset, char digest[33], sid2_error *err)
{
    sid2_source source = dataset->source;
    sid2_digest *stream = sid2_digest_begin(err);
    bool ok = stream;
    if (ok) sid2_digest_add(stream, source.labels, (size_t)source.count * sizeof *source.labels);
    ok = ok && (!source.tell || source.tell(&source, stream, err)) &&
         ((source.tell && !source.video) || digest_pixels(stream, &source, err));
    sid2_digest_end(stream, digest);
    return ok;
}

/* ---- What is left out ---- */

/* Classes keep their numbers whether or not there are pictures of them. */
char *sid2_dataset_empty_classes(const sid2_dataset *dataset)
{
    enum { SHOWN = 5 };
    const sid2_source *source = &dataset->source;
    char *has = calloc((size_t)source->classes + 1, 1), *text = NULL;
    size_t size;
    for (int64_t i = 0; has && i < source->count; i++) has[source->labels[i]] = 1;
    int64_t empty = source->classes, shown = 0;
    for (int32_t k = 0; has && k < source->classes; k++) empty -= has[k];
    FILE *stream = has && empty ? open_memstream(&text, &size) : NULL;
    if (stream) {
        fprintf(stream, "%lld of %d classes have no picture and keep their number:", (long long)empty,
                source->classes);
        for (int32_t k = 0; k < source->classes && shown < SHOWN; k++)
            if (!has[k]) fprintf(stream, "%s %.100s", shown++ ? "," : "", source->class_names[k]);
        if (empty > SHOWN) fprintf(stream, ", ...");
        if (fclose(stream)) free(text), text = NULL;
    }
    free(has);
    return text ? sid2_plain_line(text) : NULL;
}

bool sid2_dataset_loss_line(sid2_dataset *dataset, int number, char line[SID2_LOSS_LINE])
{
    const sid2_losses *known = dataset->source.files ? &dataset->source.files->losses : NULL;
    for (int i = 0; known && i < SID2_REASONS; i++)
        if (known->of[i] && number-- == 0) return sid2_losses_line(known, (sid2_reason)i, line);
    pthread_mutex_lock(&dataset->report);
    bool found = number == 0 && sid2_losses_line(&dataset->losses, SID2_LOST_BROKEN, line);
    pthread_mutex_unlock(&dataset->report);
    return found;
}

char *sid2_dataset_loss(sid2_dataset *dataset, int number)
{
    char line[SID2_LOSS_LINE];
    return sid2_dataset_loss_line(dataset, number, line) ? strdup(line) : NULL;
}

int32_t sid2_dataset_label(const sid2_dataset *dataset, int64_t index)
{
    return dataset->source.labels[picture_number(dataset, index)];
}

static char *picture_name(const sid2_dataset *dataset, int64_t picture)
{
    const sid2_source *source = &dataset->source;
    if (source->name) return source->name(source, picture);
    if (source->entry) return strdup(source->entry[picture]->name);
    char text[32];
    snprintf(text, sizeof text, "#%lld", (long long)picture);
    return strdup(text);
}

char *sid2_dataset_name(const sid2_dataset *dataset, int64_t index)
{
    return picture_name(dataset, picture_number(dataset, index));
}

char *sid2_dataset_clip_name(const sid2_dataset *dataset, int64_t index)
{
    return sid2_source_clip_name(&dataset->source, picture_number(dataset, index));
}

uint8_t *sid2_dataset_read_beside(const sid2_dataset *dataset, int64_t index, const char *name, size_t *size,
                                  int64_t *first, sid2_error *err)
{
    return sid2_source_read_beside(&dataset->source, picture_number(dataset, index), name, size, first, err);
}

/* ---- Getting ---- */

static void pad_digit(uint8_t *pixels, const sid2_image *image)
{
    size_t row = (size_t)DIGIT_SIDE * (size_t)image->channels,
           margin = (size_t)DIGIT_MARGIN * (size_t)image->channels;
    size_t stride = row + 2 * margin;
    memset(pixels, 0, stride * (DIGIT_SIDE + 2 * DIGIT_MARGIN));
    for (size_t y = 0; y < DIGIT_SIDE; y++)
        memcpy(pixels + (y + DIGIT_MARGIN) * stride + margin, image->pixels + y * row, row);
}

/* `index`: of the sample that the picture is for, which says where it is cropped. */
static bool decode(sid2_dataset *dataset, int64_t picture, int64_t index, uint8_t *pixels, bool *is_turned,
                   sid2_error *err)
{
    sid2_source *source = &dataset->source;
    int32_t height = dataset->options.height, width = dataset->options.width;
    sid2_sample sample;
    if (!load(source, picture, &sample, err)) return false;
    *is_turned = sample.orientation > 1;
    const int64_t *dim = sample.type.shape.dim;
    sid2_image image = {.height = (int32_t)dim[0],
                        .width = (int32_t)dim[1],
                        .channels = (int32_t)dim[2],
                        .pixels = sample.values,
                        .orientation = sample.orientation};
    bool ok = sid2_image_convert(&image, dataset->options.channels, err) &&
              (!dataset->is_upright || sid2_image_upright(&image, err));
    if (ok && source->is_digits && height == DIGIT_SIDE + 2 * DIGIT_MARGIN && width == height)
        pad_digit(pixels, &image);
    else if (ok && dataset->options.crops)
        ok = sid2_image_crop(pixels, &image, height, width, (int32_t)(index % dataset->options.crops),
                             dataset->options.crops, err);
    else if (ok)
        ok = sid2_image_center_crop(pixels, &image, height, width, err);
    sid2_image_free(&image);
    return ok;
}

/* Tells of a broken picture, once. */
static void mark_broken(sid2_dataset *dataset, int64_t picture, const char *message)
{
    if (atomic_exchange(&dataset->known[picture], BROKEN) == BROKEN) return;
    atomic_fetch_add(&dataset->broken, 1);
    char *name = picture_name(dataset, picture);
    if (name) sid2_plain_line(name); /* as it stands in the message */
    size_t length = name ? strlen(name) : 0;
    const char *known = length ? strstr(message, name) : NULL; /* by itself or with its folder */
    if (known && !strncmp(known + length, ": ", 2)) message = known + length + 2;
    pthread_mutex_lock(&dataset->report);
    sid2_losses_add(&dataset->losses, SID2_LOST_BROKEN, name ? name : "?", NULL);
    if (dataset->options.on_skip) dataset->options.on_skip(dataset->options.user, name ? name : "?", message);
    pthread_mutex_unlock(&dataset->report);
    free(name);
}

static bool fetch(sid2_dataset *dataset, int64_t picture, int64_t index, uint8_t *pixels, sid2_error *err)
{
    atomic_uchar *known = &dataset->known[picture];
    unsigned char state = atomic_load_explicit(known, memory_order_acquire);
    if (state == CACHED && sid2_cache_get(dataset->cache, picture, pixels)) return true;
    if (state == BROKEN) return sid2_fail(err, SID2_ERR_FORMAT, "broken, as reported before");
    bool fills = dataset->cache && state == UNKNOWN && atomic_compare_exchange_strong(known, &state, BUSY);
    bool is_turned, ok = decode(dataset, picture, index, pixels, &is_turned, err);
    bool is_kept = fills && ok && sid2_cache_put(dataset->cache, picture, pixels);
    if (fills && (ok || !is_fault_of_picture(err)))
        atomic_store_explicit(known, is_kept ? CACHED : UNKNOWN, memory_order_release);
    return ok;
}

/* Left to right: the dimension before the channels. */
static void mirror(uint8_t *values, sid2_shape shape)
{
    int64_t columns = shape.dim[shape.rank - 2], channels = shape.dim[shape.rank - 1];
    int64_t row = columns * channels, rows = sid2_shape_count(shape) / row;
    for (int64_t y = 0; y < rows; y++) {
        uint8_t *left = values + y * row, *right = left + row - channels;
        for (; left < right; left += channels, right -= channels)
            for (int64_t c = 0; c < channels; c++) {
                uint8_t kept = left[c];
                left[c] = right[c];
                right[c] = kept;
            }
    }
}

static bool exists(const sid2_dataset *dataset, int64_t index, sid2_error *err)
{
    return (index >= 0 && index < dataset->count) ||
           sid2_fail(err, SID2_ERR_USAGE, "picture %lld of %lld does not exist", (long long)index,
                     (long long)dataset->count);
}

/* A picture, or all frames of a clip. *broken: the one that fails. */
static bool fetch_all(sid2_dataset *dataset, int64_t index, uint8_t *pixels, int64_t *broken, sid2_error *err)
{
    for (int32_t f = 0; f < dataset->frames; f++) {
        *broken = picture_number(dataset, index) + (int64_t)f * dataset->options.stride;
        if (!fetch(dataset, *broken, index, pixels + (size_t)f * dataset->picture_bytes, err)) return false;
    }
    return true;
}

bool sid2_dataset_get(sid2_dataset *dataset, int64_t index, bool flip, uint8_t *pixels, int32_t *label,
                      sid2_error *err)
{
    if (!exists(dataset, index, err)) return false;
    for (int64_t step = 0; step < dataset->count; step++) {
        int64_t now = (index + step) % dataset->count, broken;
        sid2_error cause = {0};
        if (fetch_all(dataset, now, pixels, &broken, &cause)) {
            if (flip) mirror(pixels, dataset->type.shape);
            if (label) *label = sid2_dataset_label(dataset, now);
            return true;
        }
        if (!is_fault_of_picture(&cause)) return sid2_fail(err, cause.code, "%s", cause.message);
        mark_broken(dataset, broken, cause.message);
    }
    return sid2_fail(err, SID2_ERR_FORMAT, "none of the %lld %s can be read", (long long)dataset->count,
                     dataset->source.video ? "clips" : "pictures");
}

bool sid2_dataset_inspect(sid2_dataset *dataset, int64_t index, uint8_t *pixels, sid2_finding *finding,
                          sid2_error *err)
{
    if (!exists(dataset, index, err)) return false;
    int64_t picture = picture_number(dataset, index), broken = picture;
    sid2_error cause = {0};
    *finding = (sid2_finding){.label = dataset->source.labels[picture], .is_readable = true};
    for (int32_t f = 0; finding->is_readable && f < dataset->frames; f++) {
        bool is_turned = false;
        broken = picture + (int64_t)f * dataset->options.stride;
        finding->is_readable =
            decode(dataset, broken, index, pixels + (size_t)f * dataset->picture_bytes, &is_turned, &cause);
        finding->is_turned |= is_turned;
    }
    if (finding->is_readable) return true;
    if (!is_fault_of_picture(&cause)) return sid2_fail(err, cause.code, "%s", cause.message);
    mark_broken(dataset, broken, cause.message);
    return true;
}

bool sid2_dataset_extents(sid2_dataset *dataset, int64_t index, int32_t extents[3], sid2_error *err)
{
    sid2_sample sample;
    if (!exists(dataset, index, err)) return false;
    sid2_source *source = &dataset->source;
    if (!source->load(source, picture_number(dataset, index), &sample, err)) return false;
    for (int i = 0; i < 3; i++) extents[i] = (int32_t)sample.type.shape.dim[i];
    free(sample.values);
    return true;
}
