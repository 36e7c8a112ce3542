#include "plot.h"

#include "canvas.h"
#include "image.h"
#include "text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 720, FINE = 2 * SIDE, LEFT = 90, RIGHT = 24, TOP = 60, BOTTOM = 56, DOT = 2 };

/* ---- Letters: 3 x 5 dots, a row an octal digit ---- */

static const struct {
    char letter;
    uint16_t rows;
} glyphs[] = {{'0', 075557}, {'1', 026227}, {'2', 071747}, {'3', 071717}, {'4', 055711}, {'5', 074717},
              {'6', 074757}, {'7', 071111}, {'8', 075757}, {'9', 075717}, {'.', 000002}, {',', 000024},
              {'-', 000700}, {':', 002020}, {'a', 025755}, {'b', 065656}, {'c', 034443}, {'d', 065556},
              {'e', 074647}, {'f', 074644}, {'g', 034553}, {'h', 055755}, {'i', 072227}, {'j', 011152},
              {'k', 055655}, {'l', 044447}, {'m', 057755}, {'n', 065555}, {'o', 025552}, {'p', 065644},
              {'q', 025573}, {'r', 065655}, {'s', 034716}, {'t', 072222}, {'u', 055557}, {'v', 055552},
              {'w', 055775}, {'x', 055255}, {'y', 055222}, {'z', 071247}};

static uint16_t rows_of(char c)
{
    for (size_t i = 0; i < sizeof glyphs / sizeof *glyphs; i++)
        if (glyphs[i].letter == tolower((unsigned char)c)) return glyphs[i].rows;
    return 0;
}

static void write_text(uint8_t *pixels, int x, int y, const char *text, const uint8_t colour[3])
{
    for (; *text; text++, x += 4 * DOT)
        for (int row = 0; row < 5; row++)
            for (int column = 0; column < 3; column++) {
                if (!(rows_of(*text) >> (3 * (4 - row) + 2 - column) & 1)) continue;
                for (int i = 0; i < DOT * DOT; i++) {
                    int px = x + column * DOT + i % DOT, py = y + row * DOT + i / DOT;
                    if (px < 0 || py < 0 || px >= SIDE || py >= SIDE) continue;
                    memcpy(pixels + 3 * (py * SIDE + px), colour, 3);
                }
            }
}

/* ---- Axes ---- */

typedef struct axis {
    double low, high, step; /* step: between lines, 1, 2 or 5 times a power of ten */
} axis;

static axis axis_of(double low, double high)
{
    if (!(high > low)) low -= 0.5, high += 0.5;
    double span = high - low, power = pow(10, floor(log10(span))), step = power;
    if (span / power < 2)
        step = power / 5;
    else if (span / power < 5)
        step = power / 2;
    return (axis){floor(low / step) * step, ceil(high / step) * step, step};
}

static sid2_point place(const axis *x, const axis *y, double at_x, double at_y)
{
    double across = (at_x - x->low) / (x->high - x->low), up = (at_y - y->low) / (y->high - y->low);
    return (sid2_point){(LEFT + across * (SIDE - LEFT - RIGHT)) / SIDE,
                        (SIDE - BOTTOM - up * (SIDE - TOP - BOTTOM)) / SIDE};
}

static const uint32_t inks[] = {0x1f6fb4, 0xd9542b, 0x2f9e5a, 0x8a4fb0,
                                0xb08a1e, 0x3aa6a6, 0xc0397a, 0x555555};
enum { INKS = sizeof inks / sizeof *inks };

static void paint(sid2_canvas *canvas, const axis *x, const axis *y, const plot_curve *curves, int count)
{
    const sid2_paint grid = sid2_flat(sid2_rgb(0xdddddd));
    for (size_t i = 0; i < (size_t)FINE * FINE * 3; i++) canvas->rgb[i] = 1;
    for (double v = x->low; v <= x->high + x->step / 2; v += x->step)
        sid2_stroke(canvas, place(x, y, v, y->low), place(x, y, v, y->high), 0.0007, 0.0007, grid);
    for (double v = y->low; v <= y->high + y->step / 2; v += y->step)
        sid2_stroke(canvas, place(x, y, x->low, v), place(x, y, x->high, v), 0.0007, 0.0007, grid);
    for (int c = 0; c < count; c++) {
        const sid2_paint ink = sid2_flat(sid2_rgb(inks[c % INKS]));
        sid2_point before = {0};
        bool follows = false;
        for (int i = 0; i < curves[c].count; i++) {
            if (!isfinite(curves[c].x[i]) || !isfinite(curves[c].y[i])) continue;
            sid2_point now = place(x, y, curves[c].x[i], curves[c].y[i]);
            if (follows) sid2_stroke(canvas, before, now, 0.002, 0.002, ink);
            sid2_ellipse(canvas, now, 0.006, 0.006, 0, ink);
            before = now;
            follows = true;
        }
    }
}

static void letter(uint8_t *pixels, const axis *x, const axis *y, const char *title, const plot_curve *curves,
                   int count)
{
    static const uint8_t black[3] = {40, 40, 40};
    char text[32];
    write_text(pixels, LEFT, 16, title, black);
    for (double v = x->low; v <= x->high + x->step / 2; v += x->step) {
        sid2_text_format(text, sizeof text, "%.4g", fabs(v) < x->step / 1000 ? 0 : v);
        write_text(pixels, (int)(place(x, y, v, y->low).x * SIDE) - (int)strlen(text) * 2 * DOT,
                   SIDE - BOTTOM + 14, text, black);
    }
    for (double v = y->low; v <= y->high + y->step / 2; v += y->step) {
        sid2_text_format(text, sizeof text, "%.4g", fabs(v) < y->step / 1000 ? 0 : v);
        write_text(pixels, LEFT - 12 - (int)strlen(text) * 4 * DOT,
                   (int)(place(x, y, x->low, v).y * SIDE) - 5, text, black);
    }
    for (int c = 0, at = LEFT; c < count; c++) {
        uint32_t ink = inks[c % INKS];
        const uint8_t colour[3] = {(uint8_t)(ink >> 16), (uint8_t)(ink >> 8), (uint8_t)ink};
        write_text(pixels, at, 36, curves[c].name, colour);
        at += (int)(strlen(curves[c].name) + 3) * 4 * DOT;
    }
}

bool plot_write(const char *path, const char *title, const plot_curve *curves, int count, sid2_error *err)
{
    double low[2] = {INFINITY, INFINITY}, high[2] = {-INFINITY, -INFINITY};
    for (int c = 0; c < count; c++)
        for (int i = 0; i < curves[c].count; i++) {
            const double at[2] = {curves[c].x[i], curves[c].y[i]};
            for (int k = 0; k < 2 && isfinite(at[0]) && isfinite(at[1]); k++)
                low[k] = fmin(low[k], at[k]), high[k] = fmax(high[k], at[k]);
        }
    if (!isfinite(low[0])) return sid2_fail(err, SID2_ERR_USAGE, "%s: nothing to draw", path);
    const axis x = axis_of(low[0], high[0]), y = axis_of(low[1], high[1]);
    sid2_canvas canvas = {.side = FINE, .rgb = malloc((size_t)FINE * FINE * 3 * sizeof(float))};
    sid2_image image = {
        .width = SIDE, .height = SIDE, .channels = 3, .pixels = malloc((size_t)SIDE * SIDE * 3)};
    bool ok = (canvas.rgb && image.pixels) || sid2_fail(err, SID2_ERR_MEMORY, "no memory for a plot");
    if (ok) {
        paint(&canvas, &x, &y, curves, count);
        sid2_canvas_reduce(&canvas, SIDE, image.pixels);
        letter(image.pixels, &x, &y, title, curves, count);
        ok = sid2_png_write(path, &image, NULL, 0, err);
    }
    free(canvas.rgb);
    free(image.pixels);
    return ok;
}
