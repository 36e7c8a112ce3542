#include "pickle.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_VALUES = 1 << 22, MOST_MEMO = 1 << 20, MOST_NAME = 512 };

typedef struct list {
    int32_t *item;
    int32_t count, room;
} list;

typedef struct machine {
    sid2_pickle *p;
    const uint8_t *bytes;
    size_t size, at;
    list stack, marks, memo; /* memo: by number; -1: nothing */
    const char *name;
    sid2_error *err;
} machine;

static bool damaged(machine *m)
{
    return sid2_fail(m->err, SID2_ERR_FORMAT, "%s: a damaged pickle", m->name);
}

static bool no_memory(machine *m) { return sid2_fail(m->err, SID2_ERR_MEMORY, "%s: no memory", m->name); }

static bool grow(void **array, int32_t count, int32_t *room, size_t size)
{
    if (count < *room) return true;
    int32_t wanted = *room ? 2 * *room : 16;
    void *larger = realloc(*array, (size_t)wanted * size);
    if (!larger) return false;
    *array = larger;
    *room = wanted;
    return true;
}

static bool put(machine *m, list *l, int32_t value)
{
    if (!grow((void **)&l->item, l->count, &l->room, sizeof *l->item)) return no_memory(m);
    l->item[l->count++] = value;
    return true;
}

/* ---- Values ---- */

static bool push(machine *m, sid2_pickle_value value)
{
    if (m->p->count == MOST_VALUES)
        return sid2_fail(m->err, SID2_ERR_UNSUPPORTED, "%s: a pickle of more than %d values", m->name,
                         MOST_VALUES);
    if (!grow((void **)&m->p->value, m->p->count, &m->p->room, sizeof value)) return no_memory(m);
    value.state = -1;
    m->p->value[m->p->count] = value;
    return put(m, &m->stack, m->p->count++);
}

static bool push_kind(machine *m, sid2_pickle_kind kind)
{
    return push(m, (sid2_pickle_value){.kind = kind});
}

static bool push_int(machine *m, int64_t integer)
{
    return push(m, (sid2_pickle_value){.kind = SID2_PICKLE_INT, .integer = integer});
}

/* How many values lie above the newest mark; or all, where there is none. */
static int32_t above(const machine *m)
{
    return m->stack.count - (m->marks.count ? m->marks.item[m->marks.count - 1] : 0);
}

static sid2_pickle_value *top(const machine *m, int32_t below)
{
    return &m->p->value[m->stack.item[m->stack.count - 1 - below]];
}

static bool append(machine *m, sid2_pickle_value *to, int32_t value)
{
    if (!grow((void **)&to->item, to->count, &to->room, sizeof *to->item)) return no_memory(m);
    to->item[to->count++] = value;
    return true;
}

/* The last `count` values become the items of one. */
static bool gather(machine *m, sid2_pickle_kind kind, int32_t count)
{
    if (above(m) < count) return damaged(m);
    sid2_pickle_value whole = {.kind = kind, .count = count, .room = count};
    if (count) { /* without any there may be no stack either */
        size_t size = (size_t)count * sizeof *whole.item;
        whole.item = malloc(size);
        if (!whole.item) return no_memory(m);
        memcpy(whole.item, m->stack.item + m->stack.count - count, size);
    }
    m->stack.count -= count;
    if (push(m, whole)) return true;
    free(whole.item);
    return false;
}

/* The last `count` values go into the one below them. */
static bool add_items(machine *m, int32_t count, bool is_pairs)
{
    if (above(m) < count + 1 || (is_pairs && count % 2)) return damaged(m);
    sid2_pickle_value *to = top(m, count);
    bool fits = is_pairs ? to->kind == SID2_PICKLE_DICT || to->kind == SID2_PICKLE_CALL
                         : to->kind == SID2_PICKLE_LIST;
    if (!fits) return damaged(m);
    for (int32_t i = 0; i < count; i++)
        if (!append(m, to, m->stack.item[m->stack.count - count + i])) return false;
    m->stack.count -= count;
    return true;
}

static bool pop_mark(machine *m, int32_t *count)
{
    if (!m->marks.count) return damaged(m);
    *count = above(m);
    m->marks.count--;
    return true;
}

/* ---- Names ---- */

/* What weights are made of: PyTorch's and numpy's. Modules of TorchScript are described only. */
static bool is_known(const char *name)
{
    static const char *const known[] = {"collections OrderedDict",
                                        "torch._utils _rebuild_tensor_v2",
                                        "torch._utils _rebuild_parameter",
                                        "torch.jit._pickle build_intlist",
                                        "torch FloatStorage",
                                        "torch HalfStorage",
                                        "torch BFloat16Storage",
                                        "torch DoubleStorage",
                                        "torch LongStorage",
                                        "torch IntStorage",
                                        "torch BoolStorage",
                                        "numpy ndarray",
                                        "numpy dtype",
                                        "numpy.core.multiarray _reconstruct",
                                        "numpy._core.multiarray _reconstruct"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(name, known[i]) == 0) return true;
    return strncmp(name, "__torch__", 9) == 0 && (name[9] == '.' || name[9] == ' ');
}

static bool push_name(machine *m, const char *module, size_t module_length, const char *name, size_t length)
{
    if (module_length + length > MOST_NAME) return damaged(m);
    char *text = malloc(module_length + length + 2);
    if (!text) return no_memory(m);
    memcpy(text, module, module_length);
    text[module_length] = ' ';
    memcpy(text + module_length + 1, name, length);
    text[module_length + 1 + length] = 0;
    if (!is_known(text)) {
        sid2_fail(m->err, SID2_ERR_UNSUPPORTED,
                  "%s: a pickle that wants \"%.200s\", which no weights need: not read", m->name, text);
    } else if (push(m, (sid2_pickle_value){
                           .kind = SID2_PICKLE_NAME, .text = text, .length = module_length + length + 1}))
        return true;
    free(text);
    return false;
}

/* ---- Instructions ---- */

static const uint8_t *take(machine *m, size_t count)
{
    if (m->size - m->at < count) return damaged(m), NULL;
    m->at += count;
    return m->bytes + m->at - count;
}

/* A little-endian number of `count` bytes. */
static bool take_number(machine *m, int count, uint64_t *number)
{
    const uint8_t *bytes = take(m, (size_t)count);
    *number = 0;
    if (!bytes) return false;
    for (int i = count - 1; i >= 0; i--) *number = *number << 8 | bytes[i];
    return true;
}

static bool push_run(machine *m, sid2_pickle_kind kind, int length_bytes)
{
    uint64_t length = 0;
    if (!take_number(m, length_bytes, &length)) return false;
    const char *bytes = (const char *)take(m, (size_t)length);
    return bytes && push(m, (sid2_pickle_value){.kind = kind, .text = bytes, .length = (size_t)length});
}

static bool take_line(machine *m, const char **line, size_t *length)
{
    const uint8_t *end = memchr(m->bytes + m->at, '\n', m->size - m->at);
    if (!end) return damaged(m);
    *line = (const char *)m->bytes + m->at;
    *length = (size_t)(end - (m->bytes + m->at));
    m->at += *length + 1;
    return true;
}

static bool run_global(machine *m)
{
    const char *module = NULL, *name = NULL;
    size_t module_length = 0, length = 0;
    return take_line(m, &module, &module_length) && take_line(m, &name, &length) &&
           push_name(m, module, module_length, name, length);
}

static bool run_stack_global(machine *m)
{
    if (above(m) < 2) return damaged(m);
    const sid2_pickle_value *module = top(m, 1), *name = top(m, 0);
    if (module->kind != SID2_PICKLE_TEXT || name->kind != SID2_PICKLE_TEXT) return damaged(m);
    m->stack.count -= 2;
    return push_name(m, module->text, module->length, name->text, name->length);
}

static bool remember(machine *m, uint64_t number)
{
    if (!above(m) || number >= MOST_MEMO) return damaged(m);
    while ((uint64_t)m->memo.count <= number)
        if (!put(m, &m->memo, -1)) return false;
    m->memo.item[number] = m->stack.item[m->stack.count - 1];
    return true;
}

static bool recall(machine *m, uint64_t number)
{
    if (number >= (uint64_t)m->memo.count || m->memo.item[number] < 0) return damaged(m);
    return put(m, &m->stack, m->memo.item[number]);
}

static bool run_call(machine *m)
{
    return above(m) >= 2 && top(m, 1)->kind == SID2_PICKLE_NAME && top(m, 0)->kind == SID2_PICKLE_LIST
               ? gather(m, SID2_PICKLE_CALL, 2)
               : damaged(m);
}

static bool run_build(machine *m)
{
    if (above(m) < 2 || top(m, 1)->kind != SID2_PICKLE_CALL) return damaged(m);
    top(m, 1)->state = m->stack.item[m->stack.count - 1];
    m->stack.count--;
    return true;
}

static bool run_long(machine *m)
{
    uint64_t length = 0, number = 0;
    if (!take_number(m, 1, &length)) return false;
    m->at--;
    if (length > 8) return push_run(m, SID2_PICKLE_BYTES, 1);
    m->at++;
    if (!take_number(m, (int)length, &number)) return false;
    if (length && length < 8 && number >> (8 * length - 1)) number |= ~UINT64_C(0) << 8 * length;
    return push_int(m, (int64_t)number);
}

/* One instruction, by the letter it has in Python's pickle.py. */
static bool step(machine *m, int instruction)
{
    uint64_t n = 0;
    int32_t count = 0;
    switch (instruction) {
    case 0x80: return take_number(m, 1, &n) && (n <= 5 || damaged(m)); /* the protocol */
    case 0x95: return take_number(m, 8, &n);                           /* a frame: how the file is cut */
    case '(': return put(m, &m->marks, m->stack.count);
    case 'N': return push_kind(m, SID2_PICKLE_NONE);
    case 0x88:
    case 0x89: return push(m, (sid2_pickle_value){.kind = SID2_PICKLE_BOOL, .integer = instruction == 0x88});
    case 'J': return take_number(m, 4, &n) && push_int(m, (int32_t)(uint32_t)n);
    case 'K': return take_number(m, 1, &n) && push_int(m, (int64_t)n);
    case 'M': return take_number(m, 2, &n) && push_int(m, (int64_t)n);
    case 0x8a: return run_long(m);
    case 'G':
        return take_number(m, 8, &n) && push_kind(m, SID2_PICKLE_NONE); /* a float: nothing that is needed */
    case 'X': return push_run(m, SID2_PICKLE_TEXT, 4);
    case 0x8c: return push_run(m, SID2_PICKLE_TEXT, 1);
    case 0x8d: return push_run(m, SID2_PICKLE_TEXT, 8);
    case 'B': return push_run(m, SID2_PICKLE_BYTES, 4);
    case 'C': return push_run(m, SID2_PICKLE_BYTES, 1);
    case 0x8e: return push_run(m, SID2_PICKLE_BYTES, 8);
    case ']':
    case ')': return push_kind(m, SID2_PICKLE_LIST);
    case '}': return push_kind(m, SID2_PICKLE_DICT);
    case 't': return pop_mark(m, &count) && gather(m, SID2_PICKLE_LIST, count);
    case 0x85: return gather(m, SID2_PICKLE_LIST, 1);
    case 0x86: return gather(m, SID2_PICKLE_LIST, 2);
    case 0x87: return gather(m, SID2_PICKLE_LIST, 3);
    case 'a': return add_items(m, 1, false);
    case 'e': return pop_mark(m, &count) && add_items(m, count, false);
    case 's': return add_items(m, 2, true);
    case 'u': return pop_mark(m, &count) && add_items(m, count, true);
    case 'c': return run_global(m);
    case 0x93: return run_stack_global(m);
    case 'q': return take_number(m, 1, &n) && remember(m, n);
    case 'r': return take_number(m, 4, &n) && remember(m, n);
    case 0x94: return remember(m, (uint64_t)m->memo.count);
    case 'h': return take_number(m, 1, &n) && recall(m, n);
    case 'j': return take_number(m, 4, &n) && recall(m, n);
    case 'Q': return gather(m, SID2_PICKLE_STORED, 1);
    case 'R':
    case 0x81: return run_call(m);
    case 'b': return run_build(m);
    default:
        return sid2_fail(m->err, SID2_ERR_UNSUPPORTED,
                         "%s: a pickle with instruction 0x%02x, which no weights need: not read", m->name,
                         (unsigned)instruction);
    }
}

bool sid2_pickle_read(sid2_pickle *pickle, const void *bytes, size_t size, const char *name, sid2_error *err)
{
    *pickle = (sid2_pickle){0};
    machine m = {.p = pickle, .bytes = bytes, .size = size, .name = name, .err = err};
    bool ok = true, stopped = false;
    while (ok && !stopped) {
        const uint8_t *instruction = take(&m, 1);
        ok = instruction != NULL;
        stopped = ok && *instruction == '.';
        if (ok && !stopped) ok = step(&m, *instruction);
    }
    if (ok && (m.stack.count != 1 || m.marks.count)) ok = damaged(&m);
    if (ok) pickle->root = m.stack.item[0];
    pickle->used = m.at;
    free(m.stack.item);
    free(m.marks.item);
    free(m.memo.item);
    if (!ok) sid2_pickle_free(pickle);
    return ok;
}

void sid2_pickle_free(sid2_pickle *pickle)
{
    for (int32_t i = 0; i < pickle->count; i++) {
        free(pickle->value[i].item);
        if (pickle->value[i].kind == SID2_PICKLE_NAME) free((char *)pickle->value[i].text);
    }
    free(pickle->value);
    *pickle = (sid2_pickle){0};
}

const sid2_pickle_value *sid2_pickle_item(const sid2_pickle *pickle, const sid2_pickle_value *of, int32_t i)
{
    return of && i >= 0 && i < of->count ? &pickle->value[of->item[i]] : NULL;
}

bool sid2_pickle_is(const sid2_pickle_value *value, const char *text)
{
    return value && (value->kind == SID2_PICKLE_TEXT || value->kind == SID2_PICKLE_NAME) &&
           value->length == strlen(text) && memcmp(value->text, text, value->length) == 0;
}
