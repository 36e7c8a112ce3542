/* WebP through libwebp, its texts and animations through libwebpmux and libwebpdemux. */
#include "image_read.h"
#include "image_write.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>
#include <webp/demux.h>
#include <webp/encode.h>
#include <webp/mux.h>

static bool fail(const char *what, sid2_error *err)
{
    return sid2_fail(err, SID2_ERR_MEMORY, "WebP: %s: no memory", what);
}

static bool configure(WebPConfig *config, const sid2_encode_options *options, sid2_error *err)
{
    bool ok = WebPConfigInit(config);
    if (ok && options->quality) config->quality = (float)options->quality;
    if (ok && !options->quality) {
        ok = WebPConfigLosslessPreset(config, 6);
        config->exact = 1;
    }
    return ok || sid2_fail(err, SID2_ERR_INTERNAL, "WebP: libwebp is not of its header's version");
}

/* The picture is to be freed also where this fails. */
static bool import(WebPPicture *picture, const sid2_image *image, bool lossless, sid2_error *err)
{
    if (!WebPPictureInit(picture))
        return sid2_fail(err, SID2_ERR_INTERNAL, "WebP: libwebp is not of its header's version");
    sid2_image rgb = *image; /* borrowed where it is that already */
    bool is_own = image->channels != 3;
    if (is_own && !sid2_image_alloc(&rgb, image->width, image->height, 3, err)) return false;
    size_t count = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; is_own && i < count; i++) memset(rgb.pixels + 3 * i, image->pixels[i], 3);
    picture->use_argb = lossless;
    picture->width = image->width;
    picture->height = image->height;
    bool ok = WebPPictureImportRGB(picture, rgb.pixels, 3 * image->width);
    if (is_own) sid2_image_free(&rgb);
    return ok || fail("encoder", err);
}

static bool encode_still(WebPData *out, const sid2_image *image, const WebPConfig *config, sid2_error *err)
{
    WebPPicture picture;
    WebPMemoryWriter writer;
    WebPMemoryWriterInit(&writer);
    bool ok = import(&picture, image, config->lossless, err);
    if (ok) {
        picture.writer = WebPMemoryWrite;
        picture.custom_ptr = &writer;
        ok = WebPEncode(config, &picture) || fail("encoder", err); /* sizes were looked at before */
    }
    WebPPictureFree(&picture);
    if (!ok) {
        WebPMemoryWriterClear(&writer);
        return false;
    }
    *out = (WebPData){writer.mem, writer.size};
    return true;
}

static bool encode_frames(WebPData *out, const sid2_image *frames, int count, const WebPConfig *config,
                          const sid2_encode_options *options, sid2_error *err)
{
    WebPAnimEncoderOptions how;
    if (!WebPAnimEncoderOptionsInit(&how))
        return sid2_fail(err, SID2_ERR_INTERNAL, "WebP: libwebpmux is not of its header's version");
    WebPAnimEncoder *encoder = WebPAnimEncoderNew(frames->width, frames->height, &how);
    if (!encoder) return fail("encoder", err);
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        WebPPicture picture;
        ok = import(&picture, &frames[i], config->lossless, err) &&
             (WebPAnimEncoderAdd(encoder, &picture, i * options->frame_ms, config) || fail("encoder", err));
        WebPPictureFree(&picture);
    }
    int end = (count - 1) * options->frame_ms + options->last_ms;
    ok = ok && ((WebPAnimEncoderAdd(encoder, NULL, end, NULL) && WebPAnimEncoderAssemble(encoder, out)) ||
                fail("encoder", err));
    WebPAnimEncoderDelete(encoder);
    return ok;
}

/* Puts texts into what was encoded. */
static bool add_texts(WebPData *file, const sid2_encode_options *options, sid2_error *err)
{
    uint8_t *exif;
    size_t size;
    if (!options->text_count) return true;
    if (!sid2_exif_of_text(options->text, options->text_count, &exif, &size, err)) return false;
    WebPMux *mux = WebPMuxCreate(file, 1);
    WebPData chunk = {exif, size}, whole = {0};
    bool ok = mux && WebPMuxSetChunk(mux, "EXIF", &chunk, 1) == WEBP_MUX_OK &&
              WebPMuxAssemble(mux, &whole) == WEBP_MUX_OK;
    WebPMuxDelete(mux);
    free(exif);
    if (!ok) return fail("texts", err);
    WebPDataClear(file);
    *file = whole;
    return true;
}

bool sid2_webp_encode(const sid2_image *frames, int count, const sid2_encode_options *options,
                      uint8_t **bytes, size_t *size, sid2_error *err)
{
    WebPConfig config;
    WebPData file = {0};
    bool ok = configure(&config, options, err) &&
              (count > 1 ? encode_frames(&file, frames, count, &config, options, err)
                         : encode_still(&file, frames, &config, err)) &&
              add_texts(&file, options, err);
    *bytes = ok ? malloc(file.size) : NULL; /* libwebp's memory need not be malloc's */
    if (*bytes) memcpy(*bytes, file.bytes, file.size);
    *size = file.size;
    WebPDataClear(&file);
    return *bytes || (ok && fail("file", err));
}

bool sid2_webp_read_text(const uint8_t *bytes, size_t size, const char *name, sid2_png_text **text,
                         size_t *count, sid2_error *err)
{
    *text = NULL;
    *count = 0;
    WebPData chunk, file = {bytes, size};
    WebPMux *mux = WebPMuxCreate(&file, 0);
    if (!mux) return sid2_fail(err, SID2_ERR_FORMAT, "%s: a damaged WebP", name);
    bool there = WebPMuxGetChunk(mux, "EXIF", &chunk) == WEBP_MUX_OK, ok = true;
    if (there) ok = sid2_exif_to_text(chunk.bytes, chunk.size, name, text, count, err);
    WebPMuxDelete(mux);
    return ok;
}

/* ---- Decoding ---- */

static bool decode_still(sid2_image *image, const uint8_t *bytes, size_t size)
{
    size_t room = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    int stride = image->width * image->channels;
    return image->channels == 4 ? WebPDecodeRGBAInto(bytes, size, image->pixels, room, stride) != NULL
                                : WebPDecodeRGBInto(bytes, size, image->pixels, room, stride) != NULL;
}

static bool decode_first(sid2_image *image, const uint8_t *bytes, size_t size)
{
    WebPAnimDecoderOptions how;
    if (!WebPAnimDecoderOptionsInit(&how)) return false;
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&(WebPData){bytes, size}, &how);
    uint8_t *frame;
    int time;
    bool ok = decoder && WebPAnimDecoderGetNext(decoder, &frame, &time);
    if (ok) memcpy(image->pixels, frame, 4 * (size_t)image->width * (size_t)image->height);
    WebPAnimDecoderDelete(decoder);
    return ok;
}

static int32_t find_orientation(const uint8_t *bytes, size_t size)
{
    WebPDemuxer *demuxer = WebPDemux(&(WebPData){bytes, size});
    WebPChunkIterator chunk;
    int32_t orientation = 0;
    if (demuxer && WebPDemuxGetChunk(demuxer, "EXIF", 1, &chunk)) {
        orientation = sid2_exif_orientation(chunk.chunk.bytes, chunk.chunk.size);
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(demuxer);
    return orientation;
}

bool sid2_webp_decode(sid2_image *image, const uint8_t *bytes, size_t size, const char *name, sid2_error *err)
{
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(bytes, size, &features) != VP8_STATUS_OK)
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: a WebP that is cut short or damaged", name);
    int32_t channels = features.has_alpha || features.has_animation ? 4 : 3;
    if (!sid2_image_alloc(image, features.width, features.height, channels, err)) return false;
    bool ok = features.has_animation ? decode_first(image, bytes, size) : decode_still(image, bytes, size);
    if (!ok) {
        sid2_image_free(image);
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: a WebP that is cut short or damaged", name);
    }
    if (channels == 4) sid2_lay_on_white(image);
    image->orientation = find_orientation(bytes, size);
    return true;
}
