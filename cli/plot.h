/* A small line chart as a PNG. */
#ifndef SID2_CLI_PLOT_H
#define SID2_CLI_PLOT_H

#include <sid2/base.h>

typedef struct plot_curve {
    const char *name; /* letters and digits are drawn */
    const double *x, *y;
    int count;
} plot_curve;

/* Points that are not finite are left out. USAGE: nothing to draw. */
bool plot_write(const char *path, const char *title, const plot_curve *curves, int count, sid2_error *err);

#endif
