#include "progress.h"

#include "print.h"

#include "base.h"
#include "file.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- The bar ---- */

void progress_begin(progress *p)
{
    const char *kind = getenv("TERM");
    bool dumb = kind && strcmp(kind, "dumb") == 0; /* knows no control sequences */
    *p = (progress){.terminal = isatty(STDERR_FILENO) == 1 && !dumb, .began = sid2_clock()};
}

/* Where a line is too long, its parts go from the second on: first and last say most. */
static void shorten(char *text, int room)
{
    for (char *second, *third; (int)strlen(text) > room; memmove(second, third, strlen(third) + 1)) {
        second = strstr(text, ", ");
        third = second ? strstr(second + 2, ", ") : NULL;
        if (!third) return;
    }
}

void progress_show(progress *p, double fraction, const char *format, ...)
{
    double now = sid2_clock();
    bool completed = fraction >= 1 && !p->complete; /* the end is shown at once, but once */
    if (p->last && now - p->last < (p->terminal ? 0.1 : 10) && !completed) return;
    p->last = now;
    p->complete = fraction >= 1;
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    if (!p->terminal) {
        fprintf(stderr, "%3.0f %%  %s\n", floor(100 * fraction), text);
        return;
    }
    struct winsize size = {0};
    int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
    shorten(text, columns - 8);
    int width = columns - (int)strlen(text) - 10;
    if (width > 30) width = 30;
    static const char *const part[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    fprintf(stderr, "\r\033[K%3.0f %% ", floor(100 * fraction));
    if (width >= 6) {
        int eighths = (int)(fraction * width * 8);
        fputs("▕", stderr);
        for (int i = 0; i < width; i++, eighths -= 8)
            fputs(eighths >= 8 ? "█" : part[eighths > 0 ? eighths : 0], stderr);
        fputs("▏", stderr);
    }
    fprintf(stderr, " %.*s", columns > 12 ? columns - 8 : 4, text);
    fflush(stderr);
    p->shown = true;
}

void progress_wait(progress *p, const char *what)
{
    if (!p->terminal) return;
    fprintf(stderr, "\r\033[K%s ..", what);
    fflush(stderr);
    p->shown = true;
}

void progress_clear(progress *p)
{
    if (p->shown) fputs("\r\033[K", stderr);
    p->shown = false;
}

/* ---- Signals ---- */

/* What people and what batch systems stop jobs with. Of the latter more may follow (SIGXCPU comes every second, from
 * the soft limit of CPU time on), so only people's can be impatient. */
static const int stop_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGXCPU};
enum { STOP_SIGNALS = sizeof stop_signals / sizeof stop_signals[0] };

static bool is_impatient(int number)
{
    return number == SIGINT || number == SIGTERM || number == SIGHUP || number == SIGQUIT;
}

static volatile sig_atomic_t stop_asked, relays; /* times; whether others are to be told */
static volatile double asked_at;

/* A closing terminal and `timeout` send several at once: only one that comes later shows impatience. */
static void on_signal(int number)
{
    int kept = errno;
    if (!stop_asked) {
        asked_at = sid2_clock();
        stop_asked = 1;
    } else if (is_impatient(number) && sid2_clock() - asked_at >= 1) {
        stop_asked = 2;
        if (relays) return;
        static const char line[] = "\nsid2: ended at once, on the second signal\n";
        sid2_atomic_abandon();
        if (write(STDERR_FILENO, line, sizeof line - 1) < 0) errno = 0; /* nowhere to tell */
        signal(number, SIG_DFL);
        raise(number); /* as soon as this returns */
    }
    errno = kept;
}

void interrupt_install(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}, before;
    for (int i = 0; i < STOP_SIGNALS; i++) sigaddset(&action.sa_mask, stop_signals[i]);
    for (int i = 0; i < STOP_SIGNALS; i++) {
        bool nohup = stop_signals[i] == SIGHUP && sigaction(SIGHUP, NULL, &before) == 0 &&
                     before.sa_handler == SIG_IGN;
        if (!nohup) sigaction(stop_signals[i], &action, NULL);
    }
}

void interrupt_relay(void)
{
    relays = 1;
    interrupt_install();
}

bool interrupted(void) { return stop_asked; }
int interrupts(void) { return stop_asked; }
