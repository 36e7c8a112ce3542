/* The vocabulary every folder shares: errors, element types, shapes. */
#ifndef SID2_BASE_H
#define SID2_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Errors ----
 * A function that can fail returns bool (or a pointer) and takes a `sid2_error *` last. On failure it
 * returns false (NULL) and fills the error with one line that names the thing at fault and the cause.
 * The library never prints, exits or aborts. `err` may be NULL where the caller does not care. */
typedef enum sid2_code {
    SID2_OK = 0,
    SID2_ERR_USAGE,       /* the request itself is wrong: unknown key, class out of range */
    SID2_ERR_IO,          /* the system refused: missing file, full disk */
    SID2_ERR_FORMAT,      /* a file's content is not what it should be */
    SID2_ERR_MEMORY,      /* not enough memory, host or device */
    SID2_ERR_UNSUPPORTED, /* valid, but this build or device cannot do it */
    SID2_ERR_DEVICE,      /* a device failed */
    SID2_ERR_CANCELLED,   /* stopped on request */
    SID2_ERR_INTERNAL,    /* a bug in sid2 */
} sid2_code;

typedef struct sid2_error {
    sid2_code code;
    char message[480];
} sid2_error;

/* Fills `err` (if any) and returns false, so that `return sid2_fail(err, ...)` reads as one thought.
 * Pointer functions write `return sid2_fail(err, ...), NULL`. */
bool sid2_fail(sid2_error *err, sid2_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Replaces control characters by '?', so that a hostile file name stays one line and moves no cursor.
 * Messages of sid2_fail are so already. Returns `text`. */
char *sid2_plain_line(char *text);

double sid2_clock(void); /* seconds, monotonic, from no particular point */

/* ---- Element types ---- */
typedef enum sid2_dtype {
    SID2_F32,
    SID2_BF16,
    SID2_F16,
    SID2_F64, /* reference device only: the arbiter of gradients */
    SID2_U8,
    SID2_I32,
    SID2_U32,
    SID2_DTYPE_COUNT
} sid2_dtype;

size_t sid2_dtype_size(sid2_dtype dtype);      /* bytes per element */
const char *sid2_dtype_name(sid2_dtype dtype); /* "f32", "bf16", ... */

float sid2_bf16_to_f32(uint16_t bits);
uint16_t sid2_f32_to_bf16(float value); /* round to nearest even; NaN stays NaN */
float sid2_f16_to_f32(uint16_t bits);
uint16_t sid2_f32_to_f16(float value); /* round to nearest even; overflow to infinity */

/* ---- Shapes ---- */
#define SID2_MAX_RANK 5

typedef struct sid2_shape {
    int rank;
    int64_t dim[SID2_MAX_RANK]; /* row-major: the last dimension is contiguous */
} sid2_shape;

/* sid2_shape_of(8, 32, 32, 64): every extent must be given as an integer expression. */
#define sid2_shape_of(...)                                                                                   \
    sid2_shape_make((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
sid2_shape sid2_shape_make(int rank, const int64_t *dim);
int64_t sid2_shape_count(sid2_shape shape); /* elements; 1 for rank 0 */
bool sid2_shape_equal(sid2_shape a, sid2_shape b);
/* Writes "8x32x32x64" and returns `text`, for messages. */
const char *sid2_shape_text(sid2_shape shape, char text[64]);

#endif
