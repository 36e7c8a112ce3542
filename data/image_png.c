/* PNG through libpng. Its errors leave by longjmp, so everything that must be freed afterwards lives in a
 * struct outside the function that calls setjmp. */
#include "image_read.h"

#include "file.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

/* Of a decoded picture: several threads decode at a time. */
enum { MOST_BYTES = 256 << 20 };

/* One chunk may not claim more: libpng would allocate it. */
enum { CHUNK_LIMIT = 16 << 20, CHUNK_COUNT_LIMIT = 1000 };

typedef struct codec {
    const char *name;
    sid2_error *err;
    sid2_code code; /* what kind of error the next one is */
    png_struct *png;
    png_info *info, *end;
    png_byte **rows;

    const uint8_t *input; /* decoding: what is left of the file */
    size_t input_left;

    uint8_t *output; /* encoding: the file so far */
    size_t output_size, output_room;
} codec;

static void on_error(png_struct *png, const char *message)
{
    codec *c = png_get_error_ptr(png);
    sid2_fail(c->err, c->code, "%s: %s", c->name, message);
    png_longjmp(png, 1);
}

/* libpng warns of what it can mend by itself (odd profiles, unknown chunks); the picture is whole. */
static void on_warning(png_struct *png, const char *message)
{
    (void)png;
    (void)message;
}

static void no_memory(codec *c)
{
    c->code = SID2_ERR_MEMORY;
    png_error(c->png, "no memory");
}

/* Memory that ends is no damage: libpng's error that follows is of that kind. Its own limits refuse as well, but
 * do not come here. */
static void *on_malloc(png_struct *png, size_t size)
{
    codec *c = png_get_mem_ptr(png);
    void *memory = malloc(size);
    if (!memory) c->code = SID2_ERR_MEMORY;
    return memory;
}

static void on_free(png_struct *png, void *memory)
{
    (void)png;
    free(memory);
}

static void on_read(png_struct *png, png_byte *bytes, size_t size)
{
    codec *c = png_get_io_ptr(png);
    if (size > c->input_left) png_error(png, "the file is cut short");
    memcpy(bytes, c->input, size);
    c->input += size;
    c->input_left -= size;
}

static void on_write(png_struct *png, png_byte *bytes, size_t size)
{
    codec *c = png_get_io_ptr(png);
    if (size > c->output_room - c->output_size) {
        size_t room = 2 * c->output_room + size + 4096;
        uint8_t *grown = realloc(c->output, room);
        if (!grown) no_memory(c);
        c->output = grown;
        c->output_room = room;
    }
    memcpy(c->output + c->output_size, bytes, size);
    c->output_size += size;
}

static void on_flush(png_struct *png) { (void)png; }

/* Allocates the picture with libpng's 1 to 4 channels; `image->channels` counts alpha until sid2_lay_on_white(). */
static bool decode_pixels(codec *c, sid2_image *image)
{
    if (setjmp(png_jmpbuf(c->png))) return false;
    png_set_read_fn(c->png, c, on_read);
    png_set_user_limits(c->png, SID2_IMAGE_MAX_SIDE, SID2_IMAGE_MAX_SIDE);
    png_set_chunk_malloc_max(c->png, CHUNK_LIMIT);
    png_set_chunk_cache_max(c->png, CHUNK_COUNT_LIMIT);
    png_read_info(c->png, c->info);
    png_set_expand(c->png);
    png_set_scale_16(c->png);
    png_set_interlace_handling(c->png);
    png_read_update_info(c->png, c->info);

    int32_t width = (int32_t)png_get_image_width(c->png, c->info);
    int32_t height = (int32_t)png_get_image_height(c->png, c->info);
    int32_t channels = png_get_channels(c->png, c->info);
    if ((int64_t)width * height > SID2_IMAGE_MAX_PIXELS) png_error(c->png, "the picture is too large");
    if ((int64_t)png_get_rowbytes(c->png, c->info) * height > (int64_t)MOST_BYTES)
        png_error(c->png, "the picture is larger than 256 MiB");
    size_t stride = (size_t)width * (size_t)channels;
    if (png_get_rowbytes(c->png, c->info) != stride) png_error(c->png, "unexpected row size");
    image->pixels = malloc(stride * (size_t)height);
    c->rows = malloc((size_t)height * sizeof *c->rows);
    if (!image->pixels || !c->rows) no_memory(c);
    image->width = width;
    image->height = height;
    image->channels = channels;
    for (int32_t y = 0; y < height; y++) c->rows[y] = image->pixels + (size_t)y * stride;
    png_read_image(c->png, c->rows);
    png_read_end(c->png, c->end);
    return true;
}

void sid2_lay_on_white(sid2_image *image)
{
    int colours = image->channels - 1;
    size_t count = (size_t)image->width * (size_t)image->height;
    const uint8_t *from = image->pixels;
    uint8_t *to = image->pixels;
    for (size_t i = 0; i < count; i++, from += colours + 1, to += colours) {
        int alpha = from[colours];
        for (int k = 0; k < colours; k++)
            to[k] = (uint8_t)((from[k] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
    image->channels = colours;
}

static char *utf8_of_latin1(const char *text)
{
    char *utf8 = malloc(2 * strlen(text) + 1), *to = utf8;
    if (!utf8) return NULL;
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x80)
            *to++ = (char)byte;
        else {
            *to++ = (char)(0xc0 | byte >> 6);
            *to++ = (char)(0x80 | (byte & 0x3f));
        }
    }
    *to = 0;
    return utf8;
}

static bool collect_text(codec *c, sid2_png_text **text, size_t *count)
{
    png_text *before, *after;
    int n_before = 0, n_after = 0;
    png_get_text(c->png, c->info, &before, &n_before);
    png_get_text(c->png, c->end, &after, &n_after);
    size_t total = (size_t)n_before + (size_t)n_after;
    *text = calloc(total + 1, sizeof **text);
    if (!*text) return sid2_fail(c->err, SID2_ERR_MEMORY, "%s: no memory for its texts", c->name);
    for (size_t i = 0; i < total; i++) {
        const png_text *from = i < (size_t)n_before ? &before[i] : &after[i - (size_t)n_before];
        const char *value = from->text ? from->text : "";
        sid2_png_text *to = &(*text)[(*count)++];
        to->key = utf8_of_latin1(from->key);
        to->value = from->compression >= PNG_ITXT_COMPRESSION_NONE ? strdup(value) : utf8_of_latin1(value);
        if (!to->key || !to->value)
            return sid2_fail(c->err, SID2_ERR_MEMORY, "%s: no memory for its texts", c->name);
    }
    return true;
}

/* libpng 1.6.39 takes memory for all of a chunk, and clears it, before it misses what is not there, whatever its limits:
 * 600 bytes cost 4 s and 1.7 GB. */
static bool holds_its_chunks(const uint8_t *bytes, size_t size)
{
    for (size_t at = 8; at + 12 <= size;) {
        const uint8_t *length = bytes + at;
        size_t chunk = (size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3];
        if (!memcmp(bytes + at + 4, "IEND", 4)) break;
        if (chunk > size - at - 12) return false;
        at += chunk + 12;
    }
    return true;
}

bool sid2_png_decode(sid2_image *image, sid2_png_text **text, size_t *text_count, const void *bytes,
                     size_t size, const char *name, sid2_error *err)
{
    *image = (sid2_image){0};
    if (!holds_its_chunks(bytes, size))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: the file is cut short", name);
    codec c = {.name = name, .err = err, .code = SID2_ERR_FORMAT, .input = bytes, .input_left = size};
    c.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c, on_malloc, on_free);
    if (c.png) c.info = png_create_info_struct(c.png);
    if (c.info) c.end = png_create_info_struct(c.png);
    bool ok = c.end ? decode_pixels(&c, image) : sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name);
    png_byte *exif;
    png_uint_32 exif_size;
    if (ok &&
        (png_get_eXIf_1(c.png, c.info, &exif_size, &exif) || png_get_eXIf_1(c.png, c.end, &exif_size, &exif)))
        image->orientation = sid2_exif_orientation(exif, exif_size);
    if (ok && image->channels % 2 == 0) sid2_lay_on_white(image);
    if (ok && text) ok = collect_text(&c, text, text_count);
    png_destroy_read_struct(&c.png, &c.info, &c.end);
    free(c.rows);
    if (!ok) sid2_image_free(image);
    return ok;
}

static bool encode_pixels(codec *c, const sid2_image *image, const png_text *chunks, int chunk_count)
{
    if (setjmp(png_jmpbuf(c->png))) return false;
    png_set_write_fn(c->png, c, on_write, on_flush);
    png_set_IHDR(c->png, c->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (chunk_count) png_set_text(c->png, c->info, chunks, chunk_count);
    png_write_info(c->png, c->info);
    size_t stride = (size_t)image->width * (size_t)image->channels;
    for (int32_t y = 0; y < image->height; y++) png_write_row(c->png, image->pixels + (size_t)y * stride);
    png_write_end(c->png, c->info);
    return true;
}

static bool is_ascii(const char *text)
{
    while (*text && !(*text & 0x80)) text++;
    return !*text;
}

bool sid2_png_encode(const sid2_image *image, const sid2_png_text *text, size_t text_count, uint8_t **bytes,
                     size_t *size, sid2_error *err)
{
    if (image->channels != 1 && image->channels != 3)
        return sid2_fail(err, SID2_ERR_USAGE, "PNG: %d channels, it takes 1 or 3", image->channels);
    png_text *chunks = calloc(text_count + 1, sizeof *chunks);
    if (!chunks) return sid2_fail(err, SID2_ERR_MEMORY, "PNG: no memory for its texts");
    for (size_t i = 0; i < text_count; i++) {
        size_t length = strlen(text[i].key);
        if (length < 1 || length > 79) {
            free(chunks);
            return sid2_fail(err, SID2_ERR_USAGE, "PNG: text key \"%.100s\" must have 1 to 79 characters",
                             text[i].key);
        }
        chunks[i].key = text[i].key;
        chunks[i].text = text[i].value;
        chunks[i].compression =
            is_ascii(text[i].value) ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    }
    codec c = {.name = "PNG", .err = err, .code = SID2_ERR_INTERNAL};
    c.png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &c, on_error, on_warning, &c, on_malloc, on_free);
    if (c.png) c.info = png_create_info_struct(c.png);
    bool ok = c.info ? encode_pixels(&c, image, chunks, (int)text_count)
                     : sid2_fail(err, SID2_ERR_MEMORY, "PNG: no memory");
    png_destroy_write_struct(&c.png, &c.info);
    free(chunks);
    if (!ok) {
        free(c.output);
        return false;
    }
    *bytes = c.output;
    *size = c.output_size;
    return true;
}

bool sid2_png_finish(sid2_atomic_file *file, const sid2_image *image, const sid2_png_text *text,
                     size_t text_count, sid2_error *err)
{
    uint8_t *bytes;
    size_t size;
    bool ok = sid2_png_encode(image, text, text_count, &bytes, &size, err);
    if (ok) {
        fwrite(bytes, 1, size, file->stream);
        ok = sid2_atomic_commit(file, err);
        free(bytes);
    }
    sid2_atomic_discard(file);
    return ok;
}

bool sid2_png_write(const char *path, const sid2_image *image, const sid2_png_text *text, size_t text_count,
                    sid2_error *err)
{
    sid2_atomic_file file;
    return sid2_atomic_open(&file, path, err) && sid2_png_finish(&file, image, text, text_count, err);
}

void sid2_png_text_free(sid2_png_text *text, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(text[i].key);
        free(text[i].value);
    }
    free(text);
}
