/* For those who read JSON with jansson. */
#ifndef SID2_JSON_H
#define SID2_JSON_H

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <jansson.h>

/* A byte order mark before the text, as some editors put it there, is none of it. */
static inline json_t *sid2_json_read(const void *text, size_t size, size_t flags, json_error_t *problem)
{
    errno = 0;
    if (size >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text = (const char *)text + 3, size -= 3;
    return json_loadb((const char *)text, size, flags, problem);
}

/* Asked right after sid2_json_read returned NULL: whether the text is in order for all that is known, and memory ended.
 * jansson may call that a syntax error, or nothing. */
static inline bool sid2_json_no_memory(const json_error_t *problem)
{
    return errno == ENOMEM || !problem->text[0] || json_error_code(problem) == json_error_out_of_memory;
}

#endif
