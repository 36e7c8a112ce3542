#include "fold.h"

#include <stdlib.h>
#include <string.h>

/* The part of the SPIR-V specification that our modules use: opcodes, by section 3.42. */
enum {
    HEADER_WORDS = 5,
    BOUND = 3, /* the header's word that is above all ids */
    TYPE_BOOL = 20,
    CONSTANT_TRUE = 41,
    CONSTANT_FALSE = 42,
    CONSTANT = 43,
    CONSTANT_COMPOSITE = 44,
    SPEC_CONSTANT_TRUE = 48,
    SPEC_CONSTANT_FALSE = 49,
    SPEC_CONSTANT = 50,
    SPEC_CONSTANT_COMPOSITE = 51,
    SPEC_CONSTANT_OP = 52,
    DECORATE = 71,
    SPEC_ID = 1, /* the decoration */
    COMPOSITE_EXTRACT = 81,
    I_ADD = 128,
    I_SUB = 130,
    I_MUL = 132,
    U_DIV = 134,
    U_MOD = 137,
    SELECT = 169,
    I_EQUAL = 170,
    I_NOT_EQUAL = 171,
    U_GREATER_THAN = 172,
};

typedef struct id {
    uint32_t value;
    uint32_t composite; /* where its instruction begins in the module; 0: a single value */
    bool known;
} id;

typedef struct folding {
    const uint32_t *words;
    uint32_t bound, type_bool;
    id *ids;
} folding;

static bool value_of(const folding *f, uint32_t name, uint32_t *value)
{
    if (name >= f->bound || !f->ids[name].known) return false;
    *value = f->ids[name].value;
    return true;
}

/* The result of OpSpecConstantOp: type, id, operation, operands. */
static bool evaluate(const folding *f, const uint32_t *in, uint32_t count, uint32_t *result)
{
    uint32_t a, b = 0, c = 0;
    if (count < 5) return false;
    if (in[3] == COMPOSITE_EXTRACT) {
        uint32_t at = in[4] < f->bound ? f->ids[in[4]].composite : 0;
        return at && count == 6 && in[5] < (f->words[at] >> 16) - 3 &&
               value_of(f, f->words[at + 3 + in[5]], result);
    }
    if (!value_of(f, in[4], &a) || (count > 5 && !value_of(f, in[5], &b)) ||
        (count > 6 && !value_of(f, in[6], &c)))
        return false;
    switch (in[3]) {
    case I_ADD: return *result = a + b, true;
    case I_SUB: return *result = a - b, true;
    case I_MUL: return *result = a * b, true;
    case U_DIV: return *result = b ? a / b : 0, true;
    case U_MOD: return *result = b ? a % b : 0, true;
    case SELECT: return *result = a ? b : c, true;
    case I_EQUAL: return *result = a == b, true;
    case I_NOT_EQUAL: return *result = a != b, true;
    case U_GREATER_THAN: return *result = a > b, true;
    }
    return false;
}

/* Whether the driver would have been given a value for this constant, and which. */
static bool given(const VkSpecializationInfo *constants, uint32_t spec_id, uint32_t *value)
{
    for (uint32_t i = 0; i < constants->mapEntryCount; i++) {
        const VkSpecializationMapEntry *entry = &constants->pMapEntries[i];
        if (entry->constantID == spec_id && entry->size == sizeof *value)
            return memcpy(value, (const char *)constants->pData + entry->offset, sizeof *value), true;
    }
    return false;
}

/* One instruction that defines a constant, as a plain one. Returns the words written; 0: not known here. */
static uint32_t fold_constant(folding *f, const uint32_t *in, uint32_t count, uint32_t *out)
{
    uint32_t opcode = in[0] & 0xffff;
    if (count < 3 || in[2] >= f->bound) return 0;
    id *made = &f->ids[in[2]];
    if (opcode == CONSTANT_COMPOSITE || opcode == SPEC_CONSTANT_COMPOSITE) {
        made->composite = (uint32_t)(in - f->words);
        memcpy(out, in, count * sizeof *in);
        out[0] = count << 16 | CONSTANT_COMPOSITE;
        return count;
    }
    if (opcode == SPEC_CONSTANT_OP) {
        if (!evaluate(f, in, count, &made->value)) return 0;
    } else if (!made->known) {                                                       /* else it was given */
        if ((opcode == CONSTANT || opcode == SPEC_CONSTANT) && count != 4) return 0; /* wider than a word */
        made->value = count == 4 ? in[3] : opcode == CONSTANT_TRUE || opcode == SPEC_CONSTANT_TRUE;
    }
    made->known = true;
    out[1] = in[1];
    out[2] = in[2];
    if (in[1] == f->type_bool) {
        out[0] = 3u << 16 | (made->value ? CONSTANT_TRUE : CONSTANT_FALSE);
        return 3;
    }
    out[0] = 4u << 16 | CONSTANT;
    out[3] = made->value;
    return 4;
}

uint32_t *sid2_vk_fold(const uint32_t *words, size_t *bytes, const VkSpecializationInfo *constants)
{
    size_t total = *bytes / sizeof *words, written = HEADER_WORDS;
    if (total < HEADER_WORDS) return NULL;
    folding f = {.words = words, .bound = words[BOUND]};
    uint32_t *out = malloc(2 * *bytes);
    f.ids = calloc(f.bound, sizeof *f.ids);
    bool ok = out && f.ids;
    if (ok) memcpy(out, words, HEADER_WORDS * sizeof *words);
    for (size_t at = HEADER_WORDS; ok && at < total;) {
        const uint32_t *in = words + at;
        uint32_t count = in[0] >> 16, opcode = in[0] & 0xffff, made = count;
        if (!(ok = count > 0 && at + count <= total)) break;
        if (opcode == TYPE_BOOL) f.type_bool = in[1];
        if (opcode == DECORATE && count == 4 && in[2] == SPEC_ID && in[1] < f.bound) {
            f.ids[in[1]].known = given(constants, in[3], &f.ids[in[1]].value);
            made = 0;
        } else if ((opcode >= CONSTANT_TRUE && opcode <= CONSTANT_COMPOSITE) ||
                   (opcode >= SPEC_CONSTANT_TRUE && opcode <= SPEC_CONSTANT_OP)) {
            ok = (made = fold_constant(&f, in, count, out + written)) > 0;
        } else {
            memcpy(out + written, in, count * sizeof *in);
        }
        at += count;
        written += made;
    }
    free(f.ids);
    if (!ok) return free(out), NULL;
    *bytes = written * sizeof *words;
    return out;
}
