/* This process among those that were started together. */
#ifndef SID2_CLI_RANKS_H
#define SID2_CLI_RANKS_H

#include "cli.h"

#include "group.h"

typedef struct ranks {
    sid2_place place;
    sid2_device *device; /* of a rank, opened before it joins; or ranks_device's */
    sid2_group *group;   /* NULL: alone */
    sid2_watch *watch;
} ranks;

/* Of a rank (r->place says so, or is found), opens its device (`on` NULL: none), has it watched from now on, and finds
 * the others: nothing else of the program has begun. The device is what `on` says; where that leaves the choice, the
 * GPU with the number that the rank has on its host. Threads are its share of the cores, where nothing else has bound
 * it to some. */
bool ranks_join(ranks *r, const device_choice *on, sid2_error *err);
/* The device that a rank was opened on; where this process is alone, it is opened now. ranks_leave closes it. */
sid2_device *ranks_device(ranks *r, const device_choice *on, sid2_error *err);
/* All leave, having had the same result: gives the exit code, which is `code`. Where others are gone or were waited for in
 * vain, which `err` says, ends the process with EXIT_AGAIN at once: whatever is closed might wait for them. */
int ranks_leave(ranks *r, int code, const sid2_error *err);
/* Whether this one prints what all know. */
bool ranks_speak(const ranks *r);
/* report_error for all of them: one prints what all know, and each that it has lost the others or did not join them. */
int ranks_report(const ranks *r, const char *command, const sid2_error *err);
/* "rank 3 on node7: " before what only this one knows; "" of the one that speaks. Returns `text`. */
const char *ranks_name(const ranks *r, char text[96]);

#endif
