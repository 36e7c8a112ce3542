/* Pictures: PNG, JPEG and WebP in; PNG, JPEG and WebP out.
 *
 * Every format becomes 8-bit grey or RGB: 16 bits are rounded to 8, palettes expanded, transparency laid
 * on white, CMYK multiplied out, of an animation the first frame taken. Colour profiles and gamma are ignored, as Pillow
 * does and as published FID references were made. So is EXIF's rotation, of which `orientation` tells. */
#ifndef SID2_IMAGE_H
#define SID2_IMAGE_H

#include <sid2/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct sid2_image {
    int32_t width, height, channels; /* channels: 1 grey, 3 RGB */
    uint8_t *pixels;                 /* height x width x channels; from malloc */
    int32_t
        orientation; /* how EXIF asks to show it: 1 as it is, 2 to 8 rotated or mirrored; 0: it asks nothing */
} sid2_image;

#define SID2_IMAGE_MAX_SIDE   65500
#define SID2_IMAGE_MAX_PIXELS ((int64_t)1 << 27) /* larger ones are refused, not decoded */
#define SID2_IMAGE_MAX_FILE   ((size_t)1 << 29)  /* bytes of a picture's file */

SID2_API bool sid2_image_alloc(sid2_image *image, int32_t width, int32_t height, int32_t channels,
                               sid2_error *err);
SID2_API void sid2_image_free(sid2_image *image); /* an empty or freed image is fine */

/* Decodes a PNG, JPEG or WebP held in memory, recognised by its first bytes. `name` is for messages. A file cut
 * short is an error. On failure `image` is empty. Safe on hostile bytes; thread-safe. */
SID2_API bool sid2_image_decode(sid2_image *image, const void *bytes, size_t size, const char *name,
                                sid2_error *err);
SID2_API bool sid2_image_read(sid2_image *image, const char *path, sid2_error *err);

/* To `channels` 1 or 3, in place. Grey is Rec. 601 luma in 16-bit fixed point, as Pillow's. */
SID2_API bool sid2_image_convert(sid2_image *image, int32_t channels, sid2_error *err);

/* A PNG text chunk: key 1-79 Latin-1 characters, value UTF-8 (tEXt where ASCII suffices, else iTXt). */
typedef struct sid2_png_text {
    char *key, *value;
} sid2_png_text;

/* `text` may be NULL. The bytes are the caller's to free. */
SID2_API bool sid2_png_encode(const sid2_image *image, const sid2_png_text *text, size_t text_count,
                              uint8_t **bytes, size_t *size, sid2_error *err);
/* To a file, which appears complete or not at all. */
SID2_API bool sid2_png_write(const char *path, const sid2_image *image, const sid2_png_text *text,
                             size_t text_count, sid2_error *err);

/* ---- Other formats, animations ---- */
typedef enum sid2_image_format { SID2_IMAGE_PNG, SID2_IMAGE_JPEG, SID2_IMAGE_WEBP } sid2_image_format;
/* By what a name ends in, in either case: .png .apng .jpg .jpeg .webp. False: none of them. */
SID2_API bool sid2_image_format_of(const char *name, sid2_image_format *format);

/* By a file's first bytes. */
SID2_API bool sid2_image_format_in(const void *bytes, size_t size, sid2_image_format *format);

typedef struct sid2_encode_options {
    size_t struct_size;
    sid2_image_format format;
    int quality; /* 1 to 100; 0: JPEG 95, WebP lossless. PNG is lossless always */
    const sid2_png_text
        *text; /* JPEG and WebP carry them as EXIF: at most 64 KiB, values of one line; what is
                                  called `parameters` as the user's comment */
    size_t text_count;
    int frame_ms,
        last_ms; /* of an animation: how long each frame shows (0: 100), and the last (0: as the others) */
    int32_t rate[2]; /* of a clip, instead of both: so many frames in so many seconds; 0, 0: not told */
} sid2_encode_options;

/* `count` frames of one size: one is a picture, more an animation without end (APNG or WebP). The bytes are the caller's
 * to free. USAGE: what the format cannot hold. */
SID2_API bool sid2_image_encode(const sid2_image *frames, int count, const sid2_encode_options *options,
                                uint8_t **bytes, size_t *size, sid2_error *err);

/* The texts of a PNG, JPEG or WebP file, to be freed with sid2_png_text_free; of the latter two those that
 * sid2_image_encode wrote, but for `parameters`. */
SID2_API bool sid2_image_read_text(const char *path, sid2_png_text **text, size_t *count, sid2_error *err);
SID2_API void sid2_png_text_free(sid2_png_text *text, size_t count);

/* One picture of `count` equal ones, n x height x width x channels, row by row in `columns` columns (0:
 * nearly square), `padding` pixels of `background` between and around them. */
SID2_API bool sid2_image_grid(sid2_image *grid, const uint8_t *pixels, int32_t count, int32_t height,
                              int32_t width, int32_t channels, int32_t columns, int32_t padding,
                              uint8_t background, sid2_error *err);

#ifdef __cplusplus
}
#endif

#endif
