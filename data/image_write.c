/* Pictures and animations to bytes, and what texts they carry. */
#include "image_write.h"

#include "image_read.h"
#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include <webp/encode.h>

bool sid2_image_format_of(const char *name, sid2_image_format *format)
{
    static const struct {
        const char *end;
        sid2_image_format format;
    } known[] = {{".png", SID2_IMAGE_PNG},
                 {".apng", SID2_IMAGE_PNG},
                 {".jpg", SID2_IMAGE_JPEG},
                 {".jpeg", SID2_IMAGE_JPEG},
                 {".webp", SID2_IMAGE_WEBP}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (sid2_text_ends(name, known[i].end)) {
            *format = known[i].format;
            return true;
        }
    return false;
}

bool sid2_image_format_in(const void *bytes, size_t size, sid2_image_format *format)
{
    bool png = size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8);
    bool jpeg = size >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3);
    bool webp = size >= 12 && !memcmp(bytes, "RIFF", 4) && !memcmp((const char *)bytes + 8, "WEBP", 4);
    *format = jpeg ? SID2_IMAGE_JPEG : webp ? SID2_IMAGE_WEBP : SID2_IMAGE_PNG;
    return png || jpeg || webp;
}

bool sid2_image_format_holds(sid2_image_format format, int32_t width, int32_t height, sid2_error *err)
{
    int32_t most = format == SID2_IMAGE_WEBP ? WEBP_MAX_DIMENSION : SID2_IMAGE_MAX_SIDE;
    return (width <= most && height <= most) ||
           sid2_fail(err, SID2_ERR_USAGE, "%dx%d pixels: a side of a %s has %d at most", width, height,
                     format == SID2_IMAGE_WEBP ? "WebP" : "picture", most);
}

/* TurboJPEG writes no texts, so its stream is cut behind the first segments and an APP1 laid between. */
static bool insert_exif(const uint8_t *jpeg, size_t jpeg_size, const sid2_encode_options *options,
                        uint8_t **bytes, size_t *size, sid2_error *err)
{
    uint8_t *exif;
    size_t exif_size, head = 2;
    if (!sid2_exif_of_text(options->text, options->text_count, &exif, &exif_size, err)) return false;
    if (jpeg_size > 6 && jpeg[2] == 0xff && jpeg[3] == 0xe0) head += 2 + ((size_t)jpeg[4] << 8 | jpeg[5]);
    bool ok = exif_size <= 0xffff - 2 ||
              sid2_fail(err, SID2_ERR_USAGE, "JPEG: its texts have room for 64 KiB, and these are longer");
    size_t more = exif_size ? exif_size + 4 : 0;
    *bytes = ok ? malloc(jpeg_size + more) : NULL;
    if (*bytes) {
        memcpy(*bytes, jpeg, head);
        if (more) {
            const uint8_t segment[4] = {0xff, 0xe1, (uint8_t)((exif_size + 2) >> 8),
                                        (uint8_t)(exif_size + 2)};
            memcpy(*bytes + head, segment, 4);
            memcpy(*bytes + head + 4, exif, exif_size);
        }
        memcpy(*bytes + head + more, jpeg + head, jpeg_size - head);
        *size = jpeg_size + more;
    }
    free(exif);
    return *bytes || (ok && sid2_fail(err, SID2_ERR_MEMORY, "JPEG: no memory"));
}

static bool encode_jpeg(const sid2_image *image, const sid2_encode_options *options, uint8_t **bytes,
                        size_t *size, sid2_error *err)
{
    tjhandle jpeg = tjInitCompress();
    if (!jpeg) return sid2_fail(err, SID2_ERR_MEMORY, "JPEG: no memory for an encoder");
    bool grey = image->channels == 1;
    uint8_t *own = NULL;
    unsigned long own_size = 0;
    bool ok = !tjCompress2(jpeg, image->pixels, image->width, 0, image->height, grey ? TJPF_GRAY : TJPF_RGB,
                           &own, &own_size, grey ? TJSAMP_GRAY : TJSAMP_444,
                           options->quality ? options->quality : 95, TJFLAG_ACCURATEDCT) ||
              sid2_fail(err, SID2_ERR_INTERNAL, "JPEG: %s", tjGetErrorStr2(jpeg));
    ok = ok && insert_exif(own, own_size, options, bytes, size, err);
    tjFree(own);
    tjDestroy(jpeg);
    return ok;
}

bool sid2_image_encode(const sid2_image *frames, int count, const sid2_encode_options *given, uint8_t **bytes,
                       size_t *size, sid2_error *err)
{
    sid2_encode_options options;
    *bytes = NULL;
    *size = 0;
    if (!sid2_take_options(&options, given, sid2_encode_options, err)) return false;
    if (options.rate[0] < 0 || options.rate[1] < 0 || !options.rate[0] != !options.rate[1])
        return sid2_fail(err, SID2_ERR_USAGE, "%d frames in %d seconds", options.rate[0], options.rate[1]);
    if (options.rate[0]) {
        double each = 1000.0 * options.rate[1] / options.rate[0];
        options.frame_ms = options.last_ms = each < 1 ? 1 : each > 0xffff ? 0xffff : (int)lround(each);
    }
    if (!options.frame_ms) options.frame_ms = 100;
    if (!options.last_ms) options.last_ms = options.frame_ms;
    if (options.quality < 0 || options.quality > 100)
        return sid2_fail(err, SID2_ERR_USAGE, "quality %d should be 1 to 100", options.quality);
    if (options.frame_ms < 0 || options.last_ms < 0 || options.frame_ms > 0xffff || options.last_ms > 0xffff)
        return sid2_fail(err, SID2_ERR_USAGE, "a frame is shown for 1 to 65535 milliseconds");
    for (int i = 0; i < count; i++)
        if (frames[i].width != frames->width || frames[i].height != frames->height ||
            frames[i].channels != frames->channels || (frames->channels != 1 && frames->channels != 3))
            return sid2_fail(err, SID2_ERR_USAGE, "pictures have 1 or 3 channels, frames are of one size");
    if (count < 1) return sid2_fail(err, SID2_ERR_USAGE, "no picture");
    if (!sid2_image_format_holds(options.format, frames->width, frames->height, err)) return false;
    switch (options.format) {
    case SID2_IMAGE_PNG:
        return count > 1 ? sid2_apng_encode(frames, count, &options, bytes, size, err)
                         : sid2_png_encode(frames, options.text, options.text_count, bytes, size, err);
    case SID2_IMAGE_JPEG:
        if (count > 1) return sid2_fail(err, SID2_ERR_USAGE, "JPEG has no animations: APNG and WebP do");
        return encode_jpeg(frames, &options, bytes, size, err);
    case SID2_IMAGE_WEBP: return sid2_webp_encode(frames, count, &options, bytes, size, err);
    }
    return sid2_fail(err, SID2_ERR_USAGE, "no picture format %d", (int)options.format);
}

bool sid2_image_read_text(const char *path, sid2_png_text **text, size_t *count, sid2_error *err)
{
    *text = NULL;
    *count = 0;
    size_t size;
    uint8_t *bytes = sid2_file_read(path, SID2_IMAGE_MAX_FILE, &size, err);
    if (!bytes) return false;
    sid2_image image = {0};
    sid2_image_format format;
    sid2_image_format_in(bytes, size, &format); /* what is none has its error from libpng */
    bool ok = format == SID2_IMAGE_WEBP   ? sid2_webp_read_text(bytes, size, path, text, count, err)
              : format == SID2_IMAGE_JPEG ? sid2_exif_to_text(bytes, size, path, text, count, err)
                                          : sid2_png_decode(&image, text, count, bytes, size, path, err);
    sid2_image_free(&image);
    free(bytes);
    if (!ok) {
        sid2_png_text_free(*text, *count);
        *text = NULL;
        *count = 0;
    }
    return ok;
}
