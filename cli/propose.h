/* Which preset for these pictures, on this machine, in the time there is. */
#ifndef SID2_CLI_PROPOSE_H
#define SID2_CLI_PROPOSE_H

#include "cli.h"

/* Measures the presets that are for pictures of one's own and prints what each would take, and which one to take:
 * its name, or NULL. minutes: the time there is; 0: a day. */
const char *propose_preset(const char *data, const device_choice *on, size_t memory, double minutes,
                           sid2_error *err);

#endif
