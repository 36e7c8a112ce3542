/* What a trainer says of itself in its run's folder, for those who look in from elsewhere. */
#ifndef SID2_STATUS_H
#define SID2_STATUS_H

#include <sid2/run.h>

/* Writes status.json. It is rewritten every second or so, so it is not flushed to the disk. message: "" or why the
 * training failed. */
bool sid2_status_save(const char *run, const char *state, const char *message,
                      const sid2_run_progress *progress, sid2_error *err);

#endif
