/* Inside data/: YUV4MPEG2 (y4m), frames without compression behind lines of text, as `ffmpeg -f yuv4mpegpipe` and others
 * write them.
 *
 * Read are 8 bits of C420 in all its sitings, C422, C444 and Cmono, limited or full range (XCOLORRANGE=FULL), any sides;
 * fields of an interlaced frame stay woven as they lie. A file does not say its matrix: BT.601, as ffmpeg takes and
 * makes it, unless told otherwise. Chroma is interpolated linearly from where its siting says that it lies.
 *
 * Written are C444 and Cmono of full range, BT.601. A colour is written as one that reads back as itself: a frame loses
 * at most two levels of a channel the first time, and nothing from then on; grey loses nothing. */
#ifndef SID2_Y4M_H
#define SID2_Y4M_H

#include "image.h"

typedef enum sid2_matrix { SID2_MATRIX_BT601, SID2_MATRIX_BT709 } sid2_matrix;

typedef struct sid2_y4m {
    int32_t width, height;
    int32_t rate[2];         /* frames in so many seconds: 30000, 1001; 0, 0: not told */
    int32_t across, down;    /* pixels of a chroma sample; 0: grey */
    int32_t right, below[2]; /* where its centre lies in them, in half pixels from the first: Cb and Cr */
    bool full;               /* range: 0 to 255, else 16 to 235 and 240 */
    bool interlaced;
    size_t frame_bytes; /* of a frame's planes, which follow its line */
} sid2_y4m;

enum { SID2_Y4M_LINE = 1024 }; /* the longest line, of file or frame, with its end */

/* The stream's first line, with or without its '\n'. `name` is for messages. */
bool sid2_y4m_head(sid2_y4m *y4m, const char *line, size_t length, const char *name, sid2_error *err);
/* Whether a line begins a frame. */
bool sid2_y4m_is_frame(const char *line, size_t length);

/* A frame's planes, frame_bytes, as a picture of 1 or 3 channels, and the other way, which wants across = down = 1 or 0. */
bool sid2_y4m_to_image(const sid2_y4m *y4m, sid2_matrix matrix, const uint8_t *planes, sid2_image *image,
                       sid2_error *err);
void sid2_y4m_of_image(const sid2_y4m *y4m, const sid2_image *image, uint8_t *planes);
/* What is written: of this size, 1 or 3 channels, and rate. */
sid2_y4m sid2_y4m_of(int32_t width, int32_t height, int32_t channels, const int32_t rate[2]);
/* Its first line; its length is returned. */
int sid2_y4m_line(const sid2_y4m *y4m, char line[SID2_Y4M_LINE]);

/* Pictures of one size as a whole y4m; the stream keeps its errors. False: no memory. */
bool sid2_y4m_write(FILE *stream, const sid2_image *frames, int64_t count, const int32_t rate[2],
                    sid2_error *err);

/* ---- A stream, front to end ---- */
typedef struct sid2_y4m_stream sid2_y4m_stream;
/* Reads the first line. The stream stays the caller's. */
sid2_y4m_stream *sid2_y4m_open(FILE *stream, const char *name, sid2_error *err);
const sid2_y4m *sid2_y4m_about(const sid2_y4m_stream *stream);
/* The next frame's planes, the stream's own until the next call. NULL without an error: there is none. */
const uint8_t *sid2_y4m_next(sid2_y4m_stream *stream, sid2_error *err);
void sid2_y4m_close(sid2_y4m_stream *stream); /* NULL is fine */

#endif
