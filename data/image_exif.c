/* Texts and the orientation in EXIF, through libexif. */
#include "image_read.h"
#include "image_write.h"

#include <libexif/exif-data.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* One entry of `size` bytes, which are the caller's to fill; NULL: no memory. The data keeps it. */
static uint8_t *add_entry(ExifData *data, ExifIfd where, ExifTag tag, ExifFormat format, size_t size)
{
    ExifEntry *entry = exif_entry_new();
    uint8_t *bytes = entry ? calloc(1, size) : NULL;
    if (bytes) {
        entry->tag = tag;
        entry->format = format;
        entry->components = size;
        entry->size = (unsigned)size;
        entry->data = bytes; /* freed with it */
        exif_content_add_entry(data->ifd[where], entry);
        if (entry->parent != data->ifd[where]) bytes = NULL;
    }
    if (entry) exif_entry_unref(entry);
    return bytes;
}

/* UTF-8 as UTF-16, high byte first; the number of bytes. Each byte that is no UTF-8 becomes '?'. `to`: NULL to count. */
static size_t utf16_of_utf8(const char *text, uint8_t *to)
{
    size_t size = 0;
    while (*text) {
        utf8proc_int32_t code;
        utf8proc_ssize_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)text, -1, &code);
        text += bytes > 0 ? bytes : 1;
        if (bytes <= 0) code = '?';
        uint32_t units[2] = {(uint32_t)code, 0};
        if (code > 0xffff) {
            units[0] = 0xd800 + (((uint32_t)code - 0x10000) >> 10);
            units[1] = 0xdc00 + ((uint32_t)code & 0x3ff);
        }
        for (int i = 0; i < (code > 0xffff ? 2 : 1); i++, size += 2)
            if (to) {
                to[size] = (uint8_t)(units[i] >> 8);
                to[size + 1] = (uint8_t)units[i];
            }
    }
    return size;
}

static bool add_comment(ExifData *data, const char *text)
{
    uint8_t *to = add_entry(data, EXIF_IFD_EXIF, EXIF_TAG_USER_COMMENT, EXIF_FORMAT_UNDEFINED,
                            8 + utf16_of_utf8(text, NULL));
    if (!to) return false;
    memcpy(to, "UNICODE", 8);
    utf16_of_utf8(text, to + 8);
    return true;
}

static bool add_description(ExifData *data, const sid2_png_text *text, size_t count)
{
    size_t size = 1;
    for (size_t i = 0; i < count; i++) size += strlen(text[i].key) + strlen(text[i].value) + 3;
    char *to = (char *)add_entry(data, EXIF_IFD_0, EXIF_TAG_IMAGE_DESCRIPTION, EXIF_FORMAT_ASCII, size);
    for (size_t i = 0; to && i < count; i++) {
        if (strcmp(text[i].key, "parameters") == 0) continue;
        to = stpcpy(stpcpy(stpcpy(to, text[i].key), ": "), text[i].value);
        to = stpcpy(to, "\n");
    }
    return to != NULL;
}

bool sid2_exif_of_text(const sid2_png_text *text, size_t count, uint8_t **bytes, size_t *size,
                       sid2_error *err)
{
    *bytes = NULL;
    *size = 0;
    if (!count) return true;
    ExifData *data = exif_data_new();
    bool ok = data != NULL;
    if (ok)
        exif_data_set_byte_order(data, EXIF_BYTE_ORDER_MOTOROLA); /* readers take the comment's for granted */
    ok = ok && add_description(data, text, count);
    for (size_t i = 0; ok && i < count; i++)
        if (strcmp(text[i].key, "parameters") == 0) ok = add_comment(data, text[i].value);
    unsigned length = 0;
    if (ok) exif_data_save_data(data, bytes, &length);
    if (data) exif_data_unref(data);
    *size = length;
    return *bytes || sid2_fail(err, SID2_ERR_MEMORY, "no memory for a picture's texts");
}

/* Lines to texts; those without a colon are none. */
static bool split(char *lines, sid2_png_text *text, size_t *count)
{
    for (char *rest = lines, *line; (line = strsep(&rest, "\n"));) {
        char *colon = strstr(line, ": ");
        if (!colon) continue;
        *colon = 0;
        sid2_png_text *to = &text[(*count)++];
        to->key = strdup(line);
        to->value = strdup(colon + 2);
        if (!to->key || !to->value) return false;
    }
    return true;
}

bool sid2_exif_to_text(const uint8_t *bytes, size_t size, const char *name, sid2_png_text **text,
                       size_t *count, sid2_error *err)
{
    *text = NULL;
    *count = 0;
    ExifData *data = exif_data_new_from_data(bytes, size < UINT_MAX ? (unsigned)size : UINT_MAX);
    if (!data) return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its texts", name);
    const ExifEntry *entry = exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_IMAGE_DESCRIPTION);
    char *lines = entry ? strndup((const char *)entry->data, entry->size) : strdup("");
    size_t most = 1;
    for (const char *at = lines; at && *at; at++) most += *at == '\n';
    if (lines) *text = calloc(most, sizeof **text);
    bool ok = *text && split(lines, *text, count);
    free(lines);
    exif_data_unref(data);
    return ok || sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for its texts", name);
}

int32_t sid2_exif_orientation(const uint8_t *bytes, size_t size)
{
    enum { HEAD = 6, MOST = 1 << 20 };
    if (size >= HEAD && !memcmp(bytes, "Exif\0", HEAD)) bytes += HEAD, size -= HEAD;
    uint8_t *block = size <= MOST ? malloc(HEAD + size) : NULL; /* libexif asks for the head */
    if (!block) return 0;
    memcpy(block, "Exif\0", HEAD);
    memcpy(block + HEAD, bytes, size);
    ExifData *data = exif_data_new_from_data(block, (unsigned)(HEAD + size));
    const ExifEntry *entry =
        data ? exif_content_get_entry(data->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION) : NULL;
    int32_t orientation = 0;
    if (entry && entry->format == EXIF_FORMAT_SHORT && entry->size >= 2)
        orientation = exif_get_short(entry->data, exif_data_get_byte_order(data));
    if (data) exif_data_unref(data);
    free(block);
    return orientation >= 1 && orientation <= 8 ? orientation : 0;
}
