/* What the labels of a data set, and of the model trained on it, are called. */
#ifndef SID2_CLASSES_H
#define SID2_CLASSES_H

#include <sid2/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Names of labels 0 to count - 1. NULL, wherever one is read: no label has a name. */
typedef struct sid2_classes sid2_classes;

/* The names are kept as NFC; bytes that are no UTF-8 become U+FFFD. MEMORY. */
SID2_API sid2_classes *sid2_classes_create(const char *const *names, int count, sid2_error *err);
SID2_API void sid2_classes_destroy(sid2_classes *classes);
SID2_API int sid2_classes_count(const sid2_classes *classes);
SID2_API const char *sid2_classes_name(const sid2_classes *classes, int label); /* NULL: it has none */
/* Labels as people write them: names, numbers and ranges of numbers, with commas between ("dog,3,5-9"). A name is the
 * one that is equal, in either Unicode form, else equal but for case; it may hold commas itself. "name:3" and
 * "number:3" say which is meant where a name looks like another's number. `labels`: how many the model has. The caller
 * frees the labels. USAGE: a name that is unknown or that several have, with those that there are. */
SID2_API int32_t *sid2_classes_parse(const sid2_classes *classes, int labels, const char *text, size_t *count,
                                     sid2_error *err);

#ifdef __cplusplus
}
#endif

#endif
