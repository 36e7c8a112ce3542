/* What clips begin with, for sid2 sample --given. */
#ifndef SID2_CLI_GIVEN_H
#define SID2_CLI_GIVEN_H

#include "group.h"

#include <sid2/config.h>

/* The last model.given frames of each video of a data set of clips (sid2_dataset_open), as the model takes them: [count,
 * model.given, H, W, c], the caller's to free; clip i begins with video first + i modulo those there are. Where the data have as many
 * classes as the model, labels [count] that are -1 become the videos'. rate: of
 * frames, as the data say, else as it is. By all ranks of a group (NULL: alone). */
uint8_t *given_read(sid2_group *group, const char *path, const sid2_config *config, size_t first,
                    size_t count, int32_t *labels, int32_t rate[2], sid2_error *err);

#endif
