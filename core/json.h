/* For those who read JSON with jansson. */
#ifndef SID2_JSON_H
#define SID2_JSON_H

#include <jansson.h>
#include <stdbool.h>

/* Whether a text that could not be read is in order for all that is known, and memory ended: every error of syntax
 * has a text. */
static inline bool sid2_json_no_memory(const json_error_t *problem)
{
    return !problem->text[0] || json_error_code(problem) == json_error_out_of_memory;
}

#endif
