/* What a running command shows: a bar that redraws in place on a terminal, else a line now and then. */
#ifndef SID2_CLI_PROGRESS_H
#define SID2_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct progress {
    bool terminal, shown, complete;
    double began, last; /* seconds, by sid2_clock */
    uint64_t paused;    /* the step of the pause that was told of */
} progress;

void progress_begin(progress *p);
/* Redraws, at most ten times a second (every ten seconds where not a terminal). fraction: 0..1. */
void progress_show(progress *p, double fraction, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* On a terminal, a line for what takes an unknown time; until the bar is shown or cleared. */
void progress_wait(progress *p, const char *what);
/* Clears the bar, so that a line can be printed. */
void progress_clear(progress *p);

/* Ctrl-C, SIGTERM, SIGHUP (unless nohup ignores it): the first sets a flag, so that a command ends in order;
 * another one, a second or more later, kills. */
void interrupt_install(void);
bool interrupted(void);
/* For a process whose children do the work: the same, but the second one kills nobody. */
void interrupt_relay(void);
int interrupts(void); /* 0, 1, or 2: also a second one */

#endif
