/* Python's pickles, read and never run. A pickle is a program for a small machine that may call anything; this one has the
 * instructions that weights need and calls nothing: a call becomes a value that says what it would have been, of a short list
 * of names. Every other instruction or name is refused. */
#ifndef SID2_PICKLE_H
#define SID2_PICKLE_H

#include "base.h"

typedef enum sid2_pickle_kind {
    SID2_PICKLE_NONE,
    SID2_PICKLE_BOOL,
    SID2_PICKLE_INT,
    SID2_PICKLE_TEXT,  /* UTF-8, as it stands in the pickle */
    SID2_PICKLE_BYTES, /* also whole numbers of more than eight bytes */
    SID2_PICKLE_LIST,  /* tuples too */
    SID2_PICKLE_DICT,  /* items: key, value, key, value, .. */
    SID2_PICKLE_NAME,  /* `text`: "module name" */
    SID2_PICKLE_CALL, /* items: what is called, its arguments as a list; then what was set in it: key, value, .. */
    SID2_PICKLE_STORED /* items: one list that tells where a storage lies (a "persistent id") */
} sid2_pickle_kind;

typedef struct sid2_pickle_value {
    sid2_pickle_kind kind;
    int64_t integer;
    const char *text; /* within the pickle; of a name, the reader's own */
    size_t length;
    int32_t *item; /* numbers of values */
    int32_t count, room;
    int32_t state; /* of a call: what `build` gave it; -1: nothing */
} sid2_pickle_value;

typedef struct sid2_pickle {
    sid2_pickle_value *value;
    int32_t count, room;
    int32_t root;
    size_t used; /* bytes up to its end: another may follow */
} sid2_pickle;

/* The values point into `bytes`, which must outlive them. Values may lead back to themselves. `name` is for messages.
 * FORMAT: damaged; UNSUPPORTED: an instruction or a name that no weights need. On failure there is nothing to free. */
bool sid2_pickle_read(sid2_pickle *pickle, const void *bytes, size_t size, const char *name, sid2_error *err);
void sid2_pickle_free(sid2_pickle *pickle);
/* Item `i` of value `of`; NULL where there is none. */
const sid2_pickle_value *sid2_pickle_item(const sid2_pickle *pickle, const sid2_pickle_value *of, int32_t i);
/* Whether a value is a text, or a name, of these letters. */
bool sid2_pickle_is(const sid2_pickle_value *value, const char *text);

#endif
