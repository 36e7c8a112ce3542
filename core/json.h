/* For those who read and write JSON with jansson. */
#ifndef SID2_JSON_H
#define SID2_JSON_H

#include "base.h"

#include <jansson.h>

/* json_loadb, but NULL wherever an allocation failed: jansson 2.14 would drop a letter of a string or number that its
 * buffer cannot take, and go on. A byte order mark before the text, as some editors put it there, is none of it. */
json_t *sid2_json_read(const void *text, size_t size, size_t flags, json_error_t *problem);
/* Of this thread's last sid2_json_read that returned NULL: whether that was for lack of memory. */
bool sid2_json_no_memory(void);
/* A number; null for what is not finite, for which JSON has none. */
json_t *sid2_json_real(double value);
/* A member that is a number; NaN where there is none. */
double sid2_json_number(const json_t *object, const char *key);
/* sid2_json_read of what is called `name` in the line of the error. */
json_t *sid2_json_parse(const void *text, size_t size, size_t flags, const char *name, sid2_error *err);

/* Writes an object with fields, and behind them its own digest (digest.h); the file appears whole or not at all. `flags`:
 * jansson's, with an indentation. */
bool sid2_json_save(const char *path, const json_t *object, size_t flags, sid2_error *err);

#endif
