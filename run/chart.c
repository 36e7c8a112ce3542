#include "chart.h"
#include "text.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 760, HEIGHT = 300, LEFT = 76, RIGHT = 14, TOP = 12, BOTTOM = 40, MAX_POINTS = 1200 };

typedef struct axis {
    double low, high;
    bool logarithmic;
} axis;

void sid2_html_text(FILE *page, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", page);
        else if (*text == '&')
            fputs("&amp;", page);
        else if (*text == '\'')
            fputs("&#39;", page);
        else
            fputc(*text, page);
    }
}

void sid2_html_base64(FILE *page, const uint8_t *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16;
        if (i + 1 < size) word |= (uint32_t)bytes[i + 1] << 8;
        if (i + 2 < size) word |= bytes[i + 2];
        fputc(digits[word >> 18], page);
        fputc(digits[word >> 12 & 63], page);
        fputc(i + 1 < size ? digits[word >> 6 & 63] : '=', page);
        fputc(i + 2 < size ? digits[word & 63] : '=', page);
    }
}

static double place(const axis *a, double value)
{
    if (a->logarithmic) return (log(value) - log(a->low)) / (log(a->high) - log(a->low));
    return (value - a->low) / (a->high - a->low);
}

static double x_pixel(const axis *a, double value) { return LEFT + place(a, value) * (WIDTH - LEFT - RIGHT); }
static double y_pixel(const axis *a, double value)
{
    return HEIGHT - BOTTOM - place(a, value) * (HEIGHT - TOP - BOTTOM);
}

static bool drawable(const chart *c, double x, double y)
{
    return isfinite(y) && (!c->log_y || y > 0) && (!c->log_x || x > 0);
}

static void find_ranges(const chart *c, axis *x, axis *y)
{
    *x = (axis){INFINITY, -INFINITY, c->log_x};
    *y = (axis){INFINITY, -INFINITY, c->log_y};
    for (int s = 0; s < c->series_count; s++) {
        for (int i = 0; i < c->series[s].count; i++) {
            double at = c->series[s].x[i], value = c->series[s].y[i];
            if (!drawable(c, at, value)) continue;
            x->low = fmin(x->low, at);
            x->high = fmax(x->high, at);
            y->low = fmin(y->low, value);
            y->high = fmax(y->high, value);
        }
    }
    if (!(x->high > x->low)) {
        double only = isfinite(x->low) ? x->low : 1;
        x->low = c->log_x ? only / 2 : only - 1;
        x->high = c->log_x ? only * 2 : only + 1;
    }
    if (!isfinite(y->low)) y->low = y->high = 1;
    if (c->log_y) {
        y->low *= 0.93;
        y->high *= 1.07;
    } else {
        if (!c->any_y) y->low = fmin(y->low, 0);
        double room = 0.05 * (y->high - y->low);
        y->high = room > 0 ? y->high + room : y->low + 1;
        if (c->any_y) y->low -= room;
    }
}

/* 1, 2 or 5 times a power of ten, for about `count` steps. */
static double nice_step(double span, int count)
{
    double rough = span / count, power = pow(10, floor(log10(rough))), unit = rough / power;
    return power * (unit < 1.5 ? 1 : unit < 3.5 ? 2 : unit < 7.5 ? 5 : 10);
}

static void write_number(FILE *page, double value)
{
    if (value >= 1e6)
        sid2_text_print(page, "%gM", value / 1e6);
    else if (value >= 1e4)
        sid2_text_print(page, "%gk", value / 1e3);
    else
        sid2_text_print(page, "%.4g", value);
}

/* *above: where the label before stands; those that would run into it, also in small charts, are left out. */
static void write_y_tick(FILE *page, const axis *y, double value, double *above)
{
    double at = y_pixel(y, value);
    if (value < y->low || value > y->high || *above - at < 24) return;
    *above = at;
    sid2_text_print(
        page, "<line class=grid x1=%d x2=%d y1=%.1f y2=%.1f /><text class=tick x=%d y=%.1f text-anchor=end>",
        LEFT, WIDTH - RIGHT, at, at, LEFT - 8, at + 4);
    write_number(page, value);
    fputs("</text>", page);
}

static void write_x_tick(FILE *page, const axis *x, double value, double *left)
{
    double at = x_pixel(x, value);
    if (value < x->low || value - x->high > 1e-9 * fabs(x->high) || at - *left < 40) return;
    *left = at;
    sid2_text_print(page, "<text class=tick x=%.1f y=%d text-anchor=middle>", at, HEIGHT - BOTTOM + 17);
    write_number(page, value);
    fputs("</text>", page);
}

/* Every 1-2-5 where the range is wide, finer steps where it is not. */
static void write_log_ticks(FILE *page, const axis *a,
                            void (*write)(FILE *page, const axis *a, double value, double *before),
                            double before)
{
    bool wide = a->high / a->low > 8;
    for (double power = pow(10, floor(log10(a->low))); power <= a->high; power *= 10)
        for (double unit = 1; unit < 9.99; unit += wide       ? (unit < 1.5 ? 1
                                                                 : unit < 3 ? 3
                                                                            : 5)
                                                   : unit < 2 ? 0.25
                                                   : unit < 4 ? 0.5
                                                              : 1)
            write(page, a, power * unit, &before);
}

static void write_axes(FILE *page, const chart *c, const axis *x, const axis *y)
{
    double above = INFINITY, left = -INFINITY;
    if (y->logarithmic)
        write_log_ticks(page, y, write_y_tick, above);
    else {
        double step = nice_step(y->high - y->low, 5);
        for (double value = ceil(y->low / step) * step; value <= y->high; value += step)
            write_y_tick(page, y, value, &above);
    }
    if (x->logarithmic)
        write_log_ticks(page, x, write_x_tick, left);
    else {
        double step = nice_step(x->high - x->low, 6);
        if (!c->real_x) step = fmax(1, step);
        for (double value = ceil(x->low / step) * step; value <= x->high + step * 1e-9; value += step)
            write_x_tick(page, x, fabs(value) < step * 1e-6 ? 0 : value, &left);
    }
    sid2_text_print(page, "<text class=tick x=%d y=%d text-anchor=middle>%s</text>",
                    (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5, c->x_label);
}

/* Long series are thinned to what a screen can show: the mean of each run of points. */
static void write_series(FILE *page, const chart *c, const chart_series *s, const axis *x, const axis *y)
{
    int stride = (s->count + MAX_POINTS - 1) / MAX_POINTS;
    int points = 0;
    for (int i = 0; i < s->count && points < 2; i++) points += drawable(c, s->x[i], s->y[i]);
    sid2_text_print(page, "<polyline class='%s%s'", s->style, points == 1 ? " dot" : "");
    if (strcmp(s->style, "raw") != 0) {
        fputs(" data-name='", page);
        sid2_html_text(page, s->name ? s->name : "");
        fputs("'", page);
    }
    fputs(" points='", page);
    for (int first = 0; first < s->count; first += stride) {
        double sum_x = 0, sum_y = 0;
        int taken = 0;
        for (int i = first; i < first + stride && i < s->count; i++) {
            if (!drawable(c, s->x[i], s->y[i])) continue;
            sum_x += s->x[i];
            sum_y += s->y[i];
            taken++;
        }
        for (int i = 0; taken && i < (points == 1 ? 2 : 1); i++) /* twice: a line of no length, a dot */
            sid2_text_print(page, "%.2f,%.2f ", x_pixel(x, sum_x / taken), y_pixel(y, sum_y / taken));
    }
    fputs("' />", page);
}

static void write_legend(FILE *page, const chart_series *s)
{
    sid2_text_print(page, "<span><i class='%s'></i>", s->style);
    sid2_html_text(page, s->name);
    fputs("</span> ", page);
}

const char *sid2_chart_style(int i)
{
    static const char *const styles[SID2_CHART_STYLES] = {
        "s0",        "s1",        "s2",        "s3",        "s4",        "s5",
        "s6",        "s7",        "s0 dashed", "s1 dashed", "s2 dashed", "s3 dashed",
        "s4 dashed", "s5 dashed", "s6 dashed", "s7 dashed", "s0 dotted", "s1 dotted",
        "s2 dotted", "s3 dotted", "s4 dotted", "s5 dotted", "s6 dotted", "s7 dotted"};
    return styles[i % SID2_CHART_STYLES];
}

void sid2_chart_write(FILE *page, const chart *c)
{
    axis x, y;
    find_ranges(c, &x, &y);
    sid2_text_print(page, "<figure class=chart><figcaption>%s<span class=legend>", c->title);
    for (int s = 0; s < c->series_count; s++)
        if (c->series[s].name) write_legend(page, &c->series[s]);
    sid2_text_print(page,
                    "</span></figcaption><svg viewBox='0 0 %d %d' role=img aria-label='%s' data-unit='%s' "
                    "data-x='%d %d %.9g %.9g %d' data-y='%d %d %.9g %.9g %d'>",
                    WIDTH, HEIGHT, c->title, c->x_label, LEFT, WIDTH - RIGHT, x.low, x.high, x.logarithmic,
                    TOP, HEIGHT - BOTTOM, y.low, y.high, y.logarithmic);
    write_axes(page, c, &x, &y);
    for (int s = 0; s < c->series_count; s++) write_series(page, c, &c->series[s], &x, &y);
    fputs("</svg></figure>\n", page);
}

void sid2_chart_smooth(const double *y, int count, double *smooth)
{
    int half = count / 50 + 1;
    for (int i = 0; i < count; i++) {
        int reach = half < i ? half : i;
        if (reach > count - 1 - i) reach = count - 1 - i;
        double sum = 0;
        for (int k = i - reach; k <= i + reach; k++) sum += y[k];
        smooth[i] = sum / (2 * reach + 1);
    }
}
