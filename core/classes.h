/* Class names within a checkpoint: classes.json, a list of strings. */
#ifndef SID2_CORE_CLASSES_H
#define SID2_CORE_CLASSES_H

#include <sid2/classes.h>

sid2_classes *sid2_classes_clone(const sid2_classes *classes, sid2_error *err);
/* NULL without an error where the file is absent. */
bool sid2_classes_load(sid2_classes **classes, const char *path, sid2_error *err);
bool sid2_classes_save(const sid2_classes *classes, const char *path, sid2_error *err);

/* Those of some labels, once where all are the same: by name, else by number, with `separator` between and dots in place
 * of what has no room. NULL classes: numbers. Returns `text`. */
enum { SID2_CLASSES_LIST = 256 };
const char *sid2_classes_list(const sid2_classes *classes, const int32_t *labels, size_t count,
                              const char *separator, char text[SID2_CLASSES_LIST]);

/* Whether labels mean something else than before, which `text` says then. */
enum { SID2_CLASSES_TEXT = 240 };
bool sid2_classes_differ(const sid2_classes *before, const sid2_classes *now, char text[SID2_CLASSES_TEXT]);

#endif
