/* The vocabulary that every folder shares: the public one, and how errors, numbers and shapes are made. */
#ifndef SID2_CORE_BASE_H
#define SID2_CORE_BASE_H

#include <sid2/base.h>

#include <string.h>

/* Fills `err` (if any) and returns false, so that `return sid2_fail(err, ...)` reads as one thought.
 * Pointer functions write `return sid2_fail(err, ...), NULL`. */
bool sid2_fail(sid2_error *err, sid2_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#if defined(__clang_analyzer__) /* which does not look into base.c for what comes back */
#define sid2_fail(...) (sid2_fail(__VA_ARGS__), false)
#endif

/* SID2_INIT with members: sid2_with(sid2_device_options, .threads = 2). */
#define sid2_with(type, ...) ((type){.struct_size = sizeof(type), __VA_ARGS__})
/* Options as a caller gave them, to `own`, which has `size` bytes: members that the caller does not know yet are
 * zero. NULL: all are. Refuses what was not initialised (`type` names it), and members that this version does
 * not know unless they are zero. */
bool sid2_take(void *own, size_t size, const void *given, const char *type, sid2_error *err);
#define sid2_take_options(own, given, type, err) sid2_take(own, sizeof(type), given, #type, err)

/* Puts '?' for whatever is no printable UTF-8 (control characters, stray bytes), so that a hostile file name
 * stays one line and moves no cursor. Messages of sid2_fail are so already. Returns `text`. */
char *sid2_plain_line(char *text);

double sid2_clock(void); /* seconds, monotonic, from no particular point */

/* In line and without a branch, so that loops over many numbers become vectors. */
static inline float sid2_bf16_to_f32(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t sid2_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t near = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, nan = bits >> 16 | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? nan : near);
}

float sid2_f16_to_f32(uint16_t bits);
uint16_t sid2_f32_to_f16(float value); /* round to nearest even; overflow to infinity */

/* sid2_shape_of(8, 32, 32, 64): every extent must be given as an integer expression. */
#define sid2_shape_of(...)                                                                                   \
    sid2_shape_make((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})
sid2_shape sid2_shape_make(int rank, const int64_t *dim);
int64_t sid2_shape_count(sid2_shape shape); /* elements; 1 for rank 0 */
bool sid2_shape_equal(sid2_shape a, sid2_shape b);
/* Writes "8x32x32x64" and returns `text`, for messages. */
const char *sid2_shape_text(sid2_shape shape, char text[64]);

#endif
