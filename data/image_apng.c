/* APNG through libpng, which knows no animations: each frame is a PNG of its own, whose rows are taken out. The picture
 * before the animation, shown where nobody animates, is the last frame, with the texts. */
#include "image_write.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

typedef struct growing {
    uint8_t *bytes;
    size_t size, room;
    bool failed; /* no memory: nothing is added from there on */
} growing;

static void add(growing *g, const void *bytes, size_t size)
{
    if (g->failed) return;
    if (size > g->room - g->size) {
        size_t room = 2 * g->room + size;
        uint8_t *grown = realloc(g->bytes, room);
        if (!grown) {
            g->failed = true;
            return;
        }
        g->bytes = grown;
        g->room = room;
    }
    memcpy(g->bytes + g->size, bytes, size);
    g->size += size;
}

static uint32_t number_at(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static void put(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* A chunk whose contents lie in two pieces. */
static void add_chunk(growing *g, const char *type, const void *head, size_t head_size, const void *body,
                      size_t body_size)
{
    uint8_t length[4], check[4];
    put(length, (uint32_t)(head_size + body_size));
    add(g, length, 4);
    size_t start = g->size;
    add(g, type, 4);
    add(g, head, head_size);
    if (body_size) add(g, body, body_size);
    if (g->failed) return;
    put(check, (uint32_t)crc32_z(0, g->bytes + start, g->size - start));
    add(g, check, 4);
}

/* fcTL of the whole picture, then the frame's rows. `sequence` counts both kinds of chunk. */
/* It is shown for delay[0] of delay[1] seconds' parts. */
static void add_frame(growing *g, const uint8_t *png, size_t size, const sid2_image *frame,
                      const int delay[2], uint32_t *sequence)
{
    uint8_t control[26] = {0}, number[4];
    put(control, (*sequence)++);
    put(control + 4, (uint32_t)frame->width);
    put(control + 8, (uint32_t)frame->height);
    for (int i = 0; i < 2; i++) {
        control[20 + 2 * i] = (uint8_t)(delay[i] >> 8);
        control[21 + 2 * i] = (uint8_t)delay[i];
    }
    add_chunk(g, "fcTL", control, sizeof control, NULL, 0);
    for (size_t at = 8; at + 12 <= size; at += 12 + number_at(png + at)) {
        if (memcmp(png + at + 4, "IDAT", 4) != 0) continue;
        put(number, (*sequence)++);
        add_chunk(g, "fdAT", number, 4, png + at + 8, number_at(png + at));
    }
}

bool sid2_apng_encode(const sid2_image *frames, int count, const sid2_encode_options *options,
                      uint8_t **bytes, size_t *size, sid2_error *err)
{
    enum { HEAD = 8 + 25, END = 12 }; /* signature and IHDR; IEND */
    uint8_t *still;
    size_t still_size;
    if (!sid2_png_encode(&frames[count - 1], options->text, options->text_count, &still, &still_size, err))
        return false;
    growing g = {0};
    uint8_t control[8] = {0}; /* the second number: 0, repeats for ever */
    put(control, (uint32_t)count);
    add(&g, still, HEAD);
    add_chunk(&g, "acTL", control, sizeof control, NULL, 0);
    add(&g, still + HEAD, still_size - HEAD - END);
    bool ok = true;
    uint32_t sequence = 0;
    for (int i = 0; ok && i < count; i++) {
        uint8_t *png;
        size_t length;
        ok = sid2_png_encode(&frames[i], NULL, 0, &png, &length, err);
        if (!ok) break;
        bool exact = options->rate[0] && options->rate[0] <= 0xffff && options->rate[1] <= 0xffff;
        int milliseconds = i + 1 < count ? options->frame_ms : options->last_ms;
        add_frame(&g, png, length, &frames[i],
                  exact ? (const int[]){options->rate[1], options->rate[0]}
                        : (const int[]){milliseconds, 1000},
                  &sequence);
        free(png);
    }
    add(&g, still + still_size - END, END);
    free(still);
    if (ok && g.failed) ok = sid2_fail(err, SID2_ERR_MEMORY, "APNG: no memory");
    if (!ok) {
        free(g.bytes);
        return false;
    }
    *bytes = g.bytes;
    *size = g.size;
    return true;
}
