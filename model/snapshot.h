/* What a checkpoint holds, copied into host memory, so that the training can go on while it is written. */
#ifndef SID2_SNAPSHOT_H
#define SID2_SNAPSHOT_H

#include "trainer.h"

typedef struct sid2_snapshot sid2_snapshot;

/* Bytes of host memory that one takes, while it is written. */
size_t sid2_snapshot_bytes(const sid2_trainer *trainer);
/* All ranks together; they have gathered it then, and the first holds it. The trainer must stay as long, and may be trained, but
 * not resumed. The others get one that holds nothing. */
sid2_snapshot *sid2_snapshot_take(sid2_trainer *trainer, sid2_error *err);
/* As sid2_trainer_save, of the moment when it was taken, to the same bytes; by one thread, whichever. Of the first rank alone. */
bool sid2_snapshot_save(sid2_snapshot *snapshot, const char *directory, sid2_error *err);
void sid2_snapshot_free(sid2_snapshot *snapshot); /* NULL is fine */

#endif
