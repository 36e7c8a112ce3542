#include "y4m.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool bad(const char *name, sid2_error *err, const char *format, const char *text)
{
    char what[256];
    snprintf(what, sizeof what, format, text);
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: y4m: %s", name, what);
}

/* ---- Lines ---- */

static const struct {
    const char *word;
    int32_t across, down, right, below[2];
} layouts[] = {
    {"420jpeg", 2, 2, 1, {1, 1}}, {"420mpeg2", 2, 2, 0, {1, 1}}, {"420paldv", 2, 2, 0, {0, 2}},
    {"420", 2, 2, 1, {1, 1}},     {"422", 2, 1, 0, {0, 0}},      {"444", 1, 1, 0, {0, 0}},
    {"mono", 0, 0, 0, {0, 0}},
};

static bool take_layout(sid2_y4m *y, const char *word, const char *name, sid2_error *err)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (strcmp(word, layouts[i].word) == 0) {
            y->across = layouts[i].across;
            y->down = layouts[i].down;
            y->right = layouts[i].right;
            memcpy(y->below, layouts[i].below, sizeof y->below);
            return true;
        }
    return sid2_fail(
        err, SID2_ERR_UNSUPPORTED,
        "%s: y4m: colours as C%.40s are not read, but C420jpeg, C420mpeg2, C420paldv, C420, C422, "
        "C444 and Cmono of 8 bits (ffmpeg: -pix_fmt yuv420p)",
        name, word);
}

/* A whole number from 0 to 2^31 - 1 that ends at `end`. */
static bool take_number(int32_t *value, const char *text, char end, const char **rest)
{
    int64_t sum = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if ((sum = 10 * sum + (*at - '0')) > INT32_MAX) return false;
    *value = (int32_t)sum;
    *rest = at + 1;
    return at > text && *at == end;
}

static bool take_parameter(sid2_y4m *y, const char *word, const char *name, sid2_error *err)
{
    const char *rest;
    switch (word[0]) {
    case 'W':
        return take_number(&y->width, word + 1, 0, &rest) || bad(name, err, "a width of '%.40s'", word + 1);
    case 'H':
        return take_number(&y->height, word + 1, 0, &rest) || bad(name, err, "a height of '%.40s'", word + 1);
    case 'F':
        if (!take_number(&y->rate[0], word + 1, ':', &rest) || !take_number(&y->rate[1], rest, 0, &rest))
            return bad(name, err, "a frame rate of '%.40s'", word + 1);
        if (!y->rate[0] || !y->rate[1]) y->rate[0] = y->rate[1] = 0;
        return true;
    case 'I':
        if (!word[1] || word[2] || !strchr("p?tbm", word[1]))
            return bad(name, err, "an interlacing of '%.40s'", word + 1);
        y->interlaced = word[1] != 'p' && word[1] != '?';
        return true;
    case 'C': return take_layout(y, word + 1, name, err);
    case 'X':
        if (strcmp(word, "XCOLORRANGE=FULL") == 0) y->full = true;
        return true;
    default: return true; /* the pixels' aspect, and what later versions may add */
    }
}

static size_t plane_bytes(const sid2_y4m *y)
{
    if (!y->across) return 0;
    size_t columns = ((size_t)y->width + (size_t)y->across - 1) / (size_t)y->across,
           rows = ((size_t)y->height + (size_t)y->down - 1) / (size_t)y->down;
    return columns * rows;
}

bool sid2_y4m_head(sid2_y4m *y, const char *line, size_t length, const char *name, sid2_error *err)
{
    char text[SID2_Y4M_LINE + 1], *rest = NULL;
    *y = (sid2_y4m){0};
    if (length && line[length - 1] == '\n') length--;
    if (length < 9 || memcmp(line, "YUV4MPEG2", 9) != 0 || (length > 9 && line[9] != ' '))
        return bad(name, err, "does not begin with YUV4MPEG2%s", "");
    if (length > SID2_Y4M_LINE) return bad(name, err, "its first line does not end%s", "");
    memcpy(text, line, length);
    text[length] = 0;
    if (strlen(text) != length) return bad(name, err, "a zero byte in its first line%s", "");
    if (!take_layout(y, "420", name, err)) return false; /* unless it says another */
    strtok_r(text, " ", &rest);
    for (char *word; (word = strtok_r(NULL, " ", &rest));)
        if (!take_parameter(y, word, name, err)) return false;
    if (!y->width || !y->height)
        return bad(name, err, "its first line tells no %s", y->width ? "height" : "width");
    if (y->width > SID2_IMAGE_MAX_SIDE || y->height > SID2_IMAGE_MAX_SIDE ||
        (int64_t)y->width * y->height > SID2_IMAGE_MAX_PIXELS)
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: y4m: frames of %dx%d are too large", name, y->width,
                         y->height);
    y->frame_bytes = (size_t)y->width * (size_t)y->height + 2 * plane_bytes(y);
    return true;
}

bool sid2_y4m_is_frame(const char *line, size_t length)
{
    if (length && line[length - 1] == '\n') length--;
    return length >= 5 && !memcmp(line, "FRAME", 5) && (length == 5 || line[5] == ' ');
}

sid2_y4m sid2_y4m_of(int32_t width, int32_t height, int32_t channels, const int32_t rate[2])
{
    sid2_y4m y = {.width = width, .height = height, .rate = {rate[0], rate[1]}, .full = true};
    if (channels == 3) y.across = y.down = 1;
    y.frame_bytes = (size_t)width * (size_t)height + 2 * plane_bytes(&y);
    return y;
}

int sid2_y4m_line(const sid2_y4m *y, char line[SID2_Y4M_LINE])
{
    return snprintf(line, SID2_Y4M_LINE, "YUV4MPEG2 W%d H%d F%d:%d Ip A1:1 C%s XCOLORRANGE=FULL\n", y->width,
                    y->height, y->rate[0], y->rate[1], y->across ? "444" : "mono");
}

/* ---- Colours ---- */

typedef struct weights {
    double red, blue; /* of luma; green has the rest */
} weights;

static const weights matrices[] = {
    [SID2_MATRIX_BT601] = {0.299, 0.114}, [SID2_MATRIX_BT709] = {0.2126, 0.0722}};

static uint8_t byte_of(double value) { return value <= 0 ? 0 : value >= 255 ? 255 : (uint8_t)lround(value); }

/* y in 0 to 255; cb and cr as far as they are from grey, in the same measure. */
static void to_rgb(const weights *w, double y, double cb, double cr, uint8_t rgb[3])
{
    double red = 2 * (1 - w->red) * cr, blue = 2 * (1 - w->blue) * cb;
    rgb[0] = byte_of(y + red);
    rgb[1] = byte_of(y - (w->red * red + w->blue * blue) / (1 - w->red - w->blue));
    rgb[2] = byte_of(y + blue);
}

static void of_rgb(const weights *w, const uint8_t rgb[3], uint8_t yuv[3])
{
    double y = w->red * rgb[0] + (1 - w->red - w->blue) * rgb[1] + w->blue * rgb[2];
    yuv[0] = byte_of(y);
    yuv[1] = byte_of(128 + (rgb[2] - y) / (2 * (1 - w->blue)));
    yuv[2] = byte_of(128 + (rgb[0] - y) / (2 * (1 - w->red)));
}

/* Where a pixel lies between two chroma samples: the first, in a row of `count`, and quarters of the way to the next. */
typedef struct between {
    int32_t first, second, quarters;
} between;

static between place_of(int32_t pixel, int32_t each, int32_t offset, int32_t count)
{
    if (each == 1) return (between){pixel, pixel, 0};
    int32_t at = 2 * pixel - offset + 4, first = at / 4 - 1; /* quarters of a sample of two pixels */
    int32_t second = first + 1 < count ? first + 1 : count - 1;
    return (between){first < 0 ? 0 : first, second, at % 4};
}

/* Of a plane between four samples, in sixteenths. */
static int32_t chroma_at(const uint8_t *plane, int32_t columns, between x, between y)
{
    const uint8_t *upper = plane + (size_t)y.first * (size_t)columns,
                  *lower = plane + (size_t)y.second * (size_t)columns;
    int32_t above = upper[x.first] * (4 - x.quarters) + upper[x.second] * x.quarters,
            below = lower[x.first] * (4 - x.quarters) + lower[x.second] * x.quarters;
    return above * (4 - y.quarters) + below * y.quarters;
}

bool sid2_y4m_to_image(const sid2_y4m *y, sid2_matrix matrix, const uint8_t *planes, sid2_image *image,
                       sid2_error *err)
{
    if (!sid2_image_alloc(image, y->width, y->height, y->across ? 3 : 1, err)) return false;
    const weights *w = &matrices[matrix];
    double black = y->full ? 0 : 16, luma = y->full ? 1 : 255.0 / 219, chroma = y->full ? 1 : 255.0 / 224;
    size_t width = (size_t)y->width;
    uint8_t *to = image->pixels;
    if (!y->across) {
        for (size_t i = 0; i < y->frame_bytes; i++) to[i] = byte_of((planes[i] - black) * luma);
        return true;
    }
    int32_t columns = (y->width + y->across - 1) / y->across, rows = (y->height + y->down - 1) / y->down;
    const uint8_t *cb = planes + width * (size_t)y->height, *cr = cb + (size_t)columns * (size_t)rows;
    for (int32_t r = 0; r < y->height; r++) {
        between cb_row = place_of(r, y->down, y->below[0], rows),
                cr_row = place_of(r, y->down, y->below[1], rows);
        for (int32_t c = 0; c < y->width; c++, to += 3) {
            between column = place_of(c, y->across, y->right, columns);
            to_rgb(w, (planes[(size_t)r * width + (size_t)c] - black) * luma,
                   (chroma_at(cb, columns, column, cb_row) / 16.0 - 128) * chroma,
                   (chroma_at(cr, columns, column, cr_row) / 16.0 - 128) * chroma, to);
        }
    }
    return true;
}

void sid2_y4m_of_image(const sid2_y4m *y, const sid2_image *image, uint8_t *planes)
{
    const weights *w = &matrices[SID2_MATRIX_BT601];
    size_t count = (size_t)y->width * (size_t)y->height;
    if (!y->across) memcpy(planes, image->pixels, count);
    for (size_t i = 0; y->across && i < count; i++) {
        uint8_t yuv[3], again[3];
        of_rgb(w, image->pixels + 3 * i, yuv);
        to_rgb(w, yuv[0], yuv[1] - 128, yuv[2] - 128, again); /* near the edge of what is a colour, */
        of_rgb(w, again, yuv);                                /* the first rounding is not yet the last */
        for (size_t k = 0; k < 3; k++) planes[k * count + i] = yuv[k];
    }
}

bool sid2_y4m_write(FILE *stream, const sid2_image *frames, int64_t count, const int32_t rate[2],
                    sid2_error *err)
{
    char line[SID2_Y4M_LINE];
    const sid2_y4m y = sid2_y4m_of(frames->width, frames->height, frames->channels, rate);
    uint8_t *planes = malloc(y.frame_bytes);
    if (!planes) return sid2_fail(err, SID2_ERR_MEMORY, "y4m: no memory for a frame");
    fwrite(line, 1, (size_t)sid2_y4m_line(&y, line), stream);
    for (int64_t i = 0; i < count; i++) {
        sid2_y4m_of_image(&y, &frames[i], planes);
        fputs("FRAME\n", stream);
        fwrite(planes, 1, y.frame_bytes, stream);
    }
    free(planes);
    return true;
}

/* ---- A stream ---- */

struct sid2_y4m_stream {
    FILE *stream;
    char *name;
    sid2_y4m about;
    uint8_t *planes;
    int64_t frames; /* so far */
};

/* To the line's end; its length, -1: the stream ends before it begins, -2: in it, or it is too long. */
static int read_line(FILE *stream, char line[SID2_Y4M_LINE])
{
    for (int length = 0, c; length < SID2_Y4M_LINE;) {
        c = getc(stream);
        if (c == EOF) return length ? -2 : -1;
        line[length++] = (char)c;
        if (c == '\n') return length;
    }
    return -2;
}

static bool cut(const sid2_y4m_stream *s, sid2_error *err)
{
    if (ferror(s->stream)) return sid2_fail(err, SID2_ERR_IO, "%s: %s", s->name, strerror(errno));
    return sid2_fail(err, SID2_ERR_FORMAT, "%s: y4m: cut short in frame %lld", s->name, (long long)s->frames);
}

sid2_y4m_stream *sid2_y4m_open(FILE *stream, const char *name, sid2_error *err)
{
    char line[SID2_Y4M_LINE];
    sid2_y4m_stream *s = calloc(1, sizeof *s);
    if (s) s->name = strdup(name);
    if (!s || !s->name) {
        free(s);
        return sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory", name), NULL;
    }
    s->stream = stream;
    int length = read_line(stream, line);
    bool ok = length != -1 || sid2_fail(err, SID2_ERR_FORMAT, "%s: is empty, where a y4m was expected", name);
    if (ok && length < 0) ok = bad(name, err, "its first line does not end%s", "");
    ok = ok && sid2_y4m_head(&s->about, line, (size_t)length, name, err);
    if (ok) {
        s->planes = malloc(s->about.frame_bytes);
        if (!s->planes) ok = sid2_fail(err, SID2_ERR_MEMORY, "%s: no memory for a frame", name);
    }
    if (ok) return s;
    sid2_y4m_close(s);
    return NULL;
}

const sid2_y4m *sid2_y4m_about(const sid2_y4m_stream *s) { return &s->about; }

const uint8_t *sid2_y4m_next(sid2_y4m_stream *s, sid2_error *err)
{
    char line[SID2_Y4M_LINE];
    int length = read_line(s->stream, line);
    if (length == -1 && !ferror(s->stream)) return NULL;
    if (length < 0) return cut(s, err), NULL;
    if (!sid2_y4m_is_frame(line, (size_t)length))
        return sid2_fail(err, SID2_ERR_FORMAT, "%s: y4m: frame %lld does not begin with FRAME", s->name,
                         (long long)s->frames),
               NULL;
    if (fread(s->planes, 1, s->about.frame_bytes, s->stream) != s->about.frame_bytes)
        return cut(s, err), NULL;
    s->frames++;
    return s->planes;
}

void sid2_y4m_close(sid2_y4m_stream *s)
{
    if (!s) return;
    free(s->planes);
    free(s->name);
    free(s);
}
