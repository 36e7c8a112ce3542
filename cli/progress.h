/* What a running command shows: a bar that redraws in place on a terminal, else a line now and then. */
#ifndef SID2_CLI_PROGRESS_H
#define SID2_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct progress {
    bool terminal, shown, complete;
    double began, last; /* seconds, by clock_seconds */
} progress;

void progress_begin(progress *p);
/* Redraws, at most ten times a second (every ten seconds where not a terminal). fraction: 0..1. */
void progress_show(progress *p, double fraction, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* On a terminal, a line for what takes an unknown time; until the bar is shown or cleared. */
void progress_wait(progress *p, const char *what);
/* Clears the bar, so that a line can be printed. */
void progress_clear(progress *p);

double clock_seconds(void);
/* "1:05", "2:03:09"; "-" for what is not finite. Returns `text`. */
const char *text_time(double seconds, char text[32]);
/* "512 B", "3.4 MiB" */
const char *text_bytes(double bytes, char text[32]);
/* Per second: "0.382", "14.7", "1930" */
const char *text_rate(double rate, char text[32]);
/* "950", "32.7 K", "1.2 M", "3.4 G" */
const char *text_count(double number, char text[32]);

/* Ctrl-C, SIGTERM, SIGHUP (unless nohup ignores it): the first sets a flag, so that a command ends in order;
 * another one, a second or more later, kills. */
void interrupt_install(void);
bool interrupted(void);

#endif
