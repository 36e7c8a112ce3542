/* Inside sid2: what data sets have beside their public face. */
#ifndef SID2_DATA_DATASET_H
#define SID2_DATA_DATASET_H

#include <sid2/data.h>

#include "image.h"

/* What looking at a data set finds of a picture. */
typedef struct sid2_finding {
    bool is_readable; /* else reported as broken, and `pixels` mean nothing */
    bool is_turned;   /* its EXIF rotation is ignored */
    int32_t label;
} sid2_finding;

/* Decodes picture `index` itself: past the cache, and no other stands in. Fails only where memory does. */
bool sid2_dataset_inspect(sid2_dataset *dataset, int64_t index, uint8_t *pixels, sid2_finding *finding,
                          sid2_error *err);

#endif
