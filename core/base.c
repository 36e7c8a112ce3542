#include "base.h"

#include "text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

double sid2_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Bytes of the UTF-8 character at `c`, whole and well-formed; 0 for anything else. *code: which it is. */
static size_t utf8_length(const unsigned char *c, uint32_t *code)
{
    size_t length = *c < 0x80 ? 1 : *c >= 0xf0 ? 4 : *c >= 0xe0 ? 3 : 2;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    *code = length == 1 ? *c : *c & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xc0) != 0x80) return 0;
        *code = *code << 6 | (c[i] & 0x3f);
    }
    bool surrogate = *code >= 0xd800 && *code < 0xe000;
    return *code < least[length] || *code > 0x10ffff || surrogate ? 0 : length;
}

/* Control characters (also those from U+0080 to U+009F, U+009B being a terminal's other escape), separators
 * of lines, and what turns the direction of writing. */
static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x2028 && code <= 0x202e) ||
           (code >= 0x2066 && code <= 0x2069);
}

char *sid2_plain_line(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c;) {
        uint32_t code;
        size_t length = utf8_length(c, &code);
        bool keep = length && !is_control(code);
        for (length = length ? length : 1; length; length--, c++)
            if (!keep) *c = '?';
    }
    return text;
}

#undef sid2_fail
bool sid2_fail(sid2_error *err, sid2_code code, const char *format, ...)
{
    if (err) {
        /* Formatted aside first: an argument may be the old message. */
        char message[sizeof err->message];
        va_list args;
        va_start(args, format);
        sid2_text_vformat(message, sizeof message, format, args);
        va_end(args);
        err->code = code;
        memcpy(err->message, sid2_plain_line(message), sizeof message);
    }
    return false;
}

bool sid2_take(void *own, size_t size, const void *given, const char *type, sid2_error *err)
{
    size_t known = sizeof known;
    memset(own, 0, size);
    if (given) memcpy(&known, given, sizeof known); /* every options structure begins with it */
    if (known < sizeof known)
        return sid2_fail(err, SID2_ERR_USAGE, "%s: struct_size is %zu; begin with SID2_INIT(%s)", type, known,
                         type);
    for (size_t i = size; given && i < known; i++)
        if (((const char *)given)[i])
            return sid2_fail(err, SID2_ERR_UNSUPPORTED,
                             "%s: has a member that this sid2 (%s) does not know yet", type, SID2_VERSION);
    if (given) memcpy(own, given, known < size ? known : size);
    memcpy(own, &size, sizeof size);
    return true;
}

static const struct {
    const char *name;
    size_t size;
} dtypes[SID2_DTYPE_COUNT] = {
    [SID2_F32] = {"f32", 4}, [SID2_BF16] = {"bf16", 2}, [SID2_F16] = {"f16", 2}, [SID2_F64] = {"f64", 8},
    [SID2_U8] = {"u8", 1},   [SID2_I32] = {"i32", 4},   [SID2_U32] = {"u32", 4},
};

size_t sid2_dtype_size(sid2_dtype dtype) { return dtypes[dtype].size; }
const char *sid2_dtype_name(sid2_dtype dtype) { return dtypes[dtype].name; }

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

float sid2_f16_to_f32(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u, mantissa = half & 0x3ffu;
    if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24, exact in f32 */
        float value = (float)mantissa * 0x1p-24f;
        return float_of(sign | bits_of(value));
    }
    return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t sid2_f32_to_f16(float value)
{
    uint32_t bits = bits_of(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds past 65504 */
    if (magnitude <
        0x38800000u) { /* subnormal half: adding 0.5 aligns the last kept bit with f32's last bit */
        return (uint16_t)(sign | (bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f)));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

sid2_shape sid2_shape_make(int rank, const int64_t *dim)
{
    sid2_shape shape = {.rank = rank};
    for (int i = 0; i < rank && i < SID2_MAX_RANK; i++) shape.dim[i] = dim[i];
    return shape;
}

int64_t sid2_shape_count(sid2_shape shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape.rank; i++) count *= shape.dim[i];
    return count;
}

bool sid2_shape_equal(sid2_shape a, sid2_shape b)
{
    return a.rank == b.rank && memcmp(a.dim, b.dim, (size_t)a.rank * sizeof a.dim[0]) == 0;
}

const char *sid2_shape_text(sid2_shape shape, char text[64])
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < shape.rank && used < 64; i++)
        used += (size_t)snprintf(text + used, 64 - used, "%s%" PRId64, i ? "x" : "", shape.dim[i]);
    return shape.rank ? text : "scalar";
}
