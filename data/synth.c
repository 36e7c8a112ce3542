/* The scenes of the generated data set. Each draws one class from the stream of one picture; the order of
 * draws is part of the data set, so a change here changes every picture. */
#include <sid2/data.h>

#include "canvas.h"
#include "philox.h"

#include <math.h>
#include <stdlib.h>

#define TAU 6.28318530717958647692

/* ---- Chance ---- */

/* C leaves open in which order the arguments of a call are evaluated, so a common counter would make pictures
 * depend on the compiler. Instead every place in this file that draws has its own stream. */
enum { MAX_PLACES = 256 };

typedef struct stream {
    uint64_t seed, picture;
    uint16_t drawn[MAX_PLACES];
} stream;

static double draw(stream *s, int place, double low, double high)
{
    uint64_t element = (uint64_t)place << 16 | s->drawn[place]++;
    uint32_t word = sid2_philox_word(s->seed, s->picture, SID2_PURPOSE_SYNTH, element);
    return low + (high - low) * (double)sid2_uniform(word);
}

#define range(s, low, high) draw(s, __COUNTER__, low, high)
#define pick(s, count)      ((int)range(s, 0, count))

static sid2_colour pick_colour(stream *s, const uint32_t *hex, int count)
{
    sid2_colour colour = sid2_rgb(hex[pick(s, count)]), other = sid2_rgb(hex[pick(s, count)]);
    return sid2_mix(colour, other, range(s, 0, 0.25));
}

#define PICK(s, ...) pick_colour(s, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

/* ---- Backgrounds ---- */

static const sid2_colour white = {1, 1, 1}, black = {0, 0, 0};

static sid2_paint glass(sid2_colour colour, double alpha, double blur)
{
    return (sid2_paint){colour, colour, alpha, blur};
}

static void day_sky(sid2_canvas *c, stream *s, double horizon)
{
    static const uint32_t tops[] = {0x2f7fd0, 0x4a9be0, 0x3c93b8, 0x6a86cf};
    static const uint32_t lows[] = {0xcfeaf8, 0xe8f4f4, 0xf6ecd2, 0xf7dfe0};
    int i = pick(s, 4), k = pick(s, 4);
    sid2_colour low = sid2_mix(sid2_rgb(lows[i]), sid2_rgb(lows[k]), 0.4);
    sid2_gradient(c, -0.1, horizon + 0.05, sid2_rgb(tops[i]), low);
}

static void cloud(sid2_canvas *c, stream *s, double x, double y, double width)
{
    sid2_colour shade = sid2_rgb(0xdfe8f2);
    for (int i = 0; i < 6; i++) {
        double t = i / 5.0 - 0.5, r = width * (0.26 - 0.35 * t * t) * range(s, 0.8, 1.15);
        sid2_point at = {x + t * width, y - r * range(s, 0.2, 0.6)};
        sid2_ellipse(c, at, r * 1.1, r * 0.8, 0, (sid2_paint){white, shade, 0.85, 0.02});
    }
}

static void clouds(sid2_canvas *c, stream *s, double y0, double y1)
{
    int count = 1 + pick(s, 3);
    for (int i = 0; i < count; i++) cloud(c, s, range(s, 0.05, 0.95), range(s, y0, y1), range(s, 0.18, 0.34));
}

/* Gentle hills; their height at the middle is returned. */
static double hills(sid2_canvas *c, stream *s, double level, double swing, sid2_colour near, sid2_colour far)
{
    double height[6];
    for (int i = 0; i < 6; i++) height[i] = level + range(s, -swing, swing);
    sid2_ground(c, height, 6, (sid2_paint){.from = far, .to = near});
    return 0.5 * (height[2] + height[3]);
}

static double meadow(sid2_canvas *c, stream *s, double level)
{
    sid2_colour far = PICK(s, 0x9cc66b, 0xb4cf72, 0x86bd7a), near = PICK(s, 0x4c8c3c, 0x5f9a3a, 0x3f7f4a);
    hills(c, s, level - 0.05, 0.05, sid2_mix(far, near, 0.3), sid2_mix(far, sid2_rgb(0xbfdcd8), 0.45));
    return hills(c, s, level, 0.03, near, far);
}

/* Out-of-focus lights, as behind a close-up. */
static void bokeh(sid2_canvas *c, stream *s, sid2_colour colour, int count)
{
    for (int i = 0; i < count; i++) {
        sid2_point at = {range(s, 0, 1), range(s, 0, 0.8)};
        double r = range(s, 0.05, 0.14);
        sid2_ellipse(c, at, r, r, 0,
                     glass(sid2_mix(colour, white, range(s, 0, 0.5)), range(s, 0.12, 0.35), 0.05));
    }
}

static void grass(sid2_canvas *c, stream *s, double level, sid2_colour colour, int count)
{
    for (int i = 0; i < count; i++) {
        double x = range(s, -0.02, 1.02), height = range(s, 0.08, 0.2);
        sid2_colour blade = sid2_mix(colour, i % 2 ? white : black, range(s, 0, 0.22));
        sid2_stroke(c, (sid2_point){x, 1.02}, (sid2_point){x + range(s, -0.06, 0.06), level - height + 0.1},
                    0.016, 0.003, sid2_flat(blade));
    }
}

/* ---- Scenes ---- */

static void sunset(sid2_canvas *c, stream *s)
{
    static const uint32_t skies[][3] = {{0x3b2a66, 0xd9587a, 0xffc56b},
                                        {0x1f3a6e, 0xe27a4f, 0xffdf8a},
                                        {0x7a2f4f, 0xf08a3c, 0xffe08c},
                                        {0x4b5aa6, 0xf2a07b, 0xffe9b8}};
    const uint32_t *sky = skies[pick(s, 4)];
    sid2_colour top = sid2_rgb(sky[0]), middle = sid2_rgb(sky[1]), low = sid2_rgb(sky[2]);
    double horizon = range(s, 0.56, 0.68), radius = range(s, 0.13, 0.2);
    sid2_point sun = {range(s, 0.28, 0.72), horizon - range(s, 0, 0.2)};
    sid2_gradient(c, -0.1, horizon + 0.01, middle, low);
    sid2_gradient(c, horizon * 0.6, horizon + 0.01, middle, low);
    sid2_gradient(c, -0.1, horizon * 0.6, top, middle);
    sid2_glow(c, sun, radius * 3.2, sid2_rgb(0xfff0b0), 0.75);
    sid2_ellipse(c, sun, radius, radius, 0,
                 (sid2_paint){.from = sid2_rgb(0xfffbe0), .to = sid2_rgb(0xffc64a)});
    int streaks = 2 + pick(s, 3);
    for (int i = 0; i < streaks; i++) {
        sid2_point at = {range(s, 0, 1), range(s, 0.08, horizon - 0.12)};
        sid2_ellipse(c, at, range(s, 0.14, 0.32), range(s, 0.012, 0.026), 0,
                     glass(sid2_mix(middle, top, range(s, 0, 0.6)), 0.8, 0.012));
    }
    sid2_gradient(c, horizon, 1.01, sid2_mix(low, middle, 0.65), sid2_mix(top, black, 0.45));
    for (int i = 0; i < 16; i++) { /* the glitter path: narrow and dense at the horizon */
        double t = (i + range(s, 0.1, 0.9)) / 16, y = horizon + 0.01 + t * (1 - horizon);
        double half = radius * (0.35 + 0.6 * range(s, 0, 1)) * (1 - 0.35 * t);
        double x = sun.x + range(s, -0.3, 0.3) * radius;
        sid2_ellipse(c, (sid2_point){x, y}, half, 0.006 + 0.008 * t, 0,
                     glass(sid2_mix(low, white, 0.35), 0.85 - 0.5 * t, 0.004));
    }
}

/* One peak: a lit and a shaded side meeting at a crooked ridge, snow on both. */
static void peak(sid2_canvas *c, stream *s, double x, double top, double half, double base, sid2_colour rock,
                 bool snow)
{
    double height = base - top, bend = half * range(s, -0.15, 0.15), k = range(s, 0.28, 0.42);
    sid2_point ridge[4] = {{x, top},
                           {x + bend, top + 0.3 * height},
                           {x + 0.3 * bend, top + 0.6 * height},
                           {x + bend * 1.4, base}};
    sid2_point left[5] = {ridge[0], ridge[1], ridge[2], ridge[3], {x - half, base}};
    sid2_point right[5] = {ridge[0], ridge[1], ridge[2], ridge[3], {x + half, base}};
    sid2_colour lit = sid2_mix(rock, white, 0.22), dark = sid2_mix(rock, sid2_rgb(0x20243c), 0.45);
    sid2_polygon(c, left, 5, (sid2_paint){.from = lit, .to = rock});
    sid2_polygon(c, right, 5, (sid2_paint){.from = dark, .to = sid2_mix(rock, dark, 0.6)});
    if (!snow) return;
    double y = top + k * height, w = k * half, ridge_x = x + bend * fmin(1, k / 0.3);
    sid2_point bright[5] = {ridge[0],
                            {ridge_x, y + 0.05 * height},
                            {ridge_x - 0.3 * w, y - 0.07 * height},
                            {x - 0.62 * w, y + 0.06 * height},
                            {x - w, y}};
    sid2_point shadow[5] = {ridge[0],
                            {ridge_x, y + 0.05 * height},
                            {ridge_x + 0.35 * w, y - 0.08 * height},
                            {x + 0.65 * w, y + 0.05 * height},
                            {x + w, y}};
    sid2_polygon(c, bright, 5, sid2_flat(sid2_rgb(0xfdfeff)));
    sid2_polygon(c, shadow, 5, sid2_flat(sid2_rgb(0xb9c8e2)));
}

static void mountains(sid2_canvas *c, stream *s)
{
    day_sky(c, s, 0.75);
    if (pick(s, 2)) clouds(c, s, 0.08, 0.28);
    sid2_colour rock = PICK(s, 0x6b7489, 0x7d6f78, 0x5f7f93, 0x8a7a6a);
    sid2_colour haze = sid2_mix(rock, sid2_rgb(0xcfe0f0), 0.55);
    for (int i = 0; i < 3; i++)
        peak(c, s, range(s, 0.1, 0.3) + 0.3 * i, range(s, 0.38, 0.5), range(s, 0.28, 0.4), 0.85, haze, false);
    double main_x = range(s, 0.32, 0.68), side = main_x < 0.5 ? 1 : -1;
    peak(c, s, main_x + side * range(s, 0.28, 0.36), range(s, 0.34, 0.44), range(s, 0.3, 0.38), 0.9, rock,
         true);
    peak(c, s, main_x, range(s, 0.12, 0.24), range(s, 0.38, 0.48), 0.95, rock, true);
    sid2_colour wood = PICK(s, 0x2f5d43, 0x3f6b3a, 0x4b6f4f);
    hills(c, s, range(s, 0.74, 0.8), 0.04, wood, sid2_mix(wood, white, 0.22));
    hills(c, s, range(s, 0.86, 0.92), 0.03, sid2_mix(wood, black, 0.3), wood);
}

static void tree(sid2_canvas *c, stream *s)
{
    day_sky(c, s, 0.75);
    if (pick(s, 2)) clouds(c, s, 0.1, 0.3);
    double ground = meadow(c, s, range(s, 0.74, 0.8)) + 0.07, x = range(s, 0.4, 0.6);
    double top = range(s, 0.08, 0.16), width = range(s, 0.26, 0.36), middle = 0.5 * (top + 0.6);
    sid2_colour leaf = PICK(s, 0x3f8f3a, 0x5aa03c, 0x2f7d4f, 0xd9822b, 0xc8452f, 0xe7b53a, 0xee9fbe);
    sid2_colour bark = PICK(s, 0x6b4a32, 0x7d5a3c, 0x584238);
    sid2_ellipse(c, (sid2_point){x + 0.05, ground}, width * 0.95, 0.04, 0,
                 glass(sid2_rgb(0x1f3a24), 0.45, 0.03));
    sid2_stroke(c, (sid2_point){x, ground}, (sid2_point){x + range(s, -0.02, 0.02), middle}, 0.06, 0.035,
                (sid2_paint){.from = sid2_mix(bark, white, 0.15), .to = sid2_mix(bark, black, 0.25)});
    sid2_stroke(c, (sid2_point){x, 0.62}, (sid2_point){x - 0.14, 0.46}, 0.025, 0.015, sid2_flat(bark));
    sid2_stroke(c, (sid2_point){x, 0.6}, (sid2_point){x + 0.14, 0.44}, 0.025, 0.015,
                sid2_flat(sid2_mix(bark, black, 0.2)));
    for (int layer = 0; layer < 3; layer++) { /* dark behind, light in front and up left */
        sid2_colour dark = {leaf.r * 0.6, leaf.g * 0.58, leaf.b * 0.64};
        sid2_colour tone = layer == 0 ? dark : sid2_mix(leaf, sid2_rgb(0xfff6c8), layer == 1 ? 0.02 : 0.25);
        double shrink = 1 - 0.22 * layer, shift = -0.025 * layer;
        for (int i = 0; i < 7; i++) {
            double angle = TAU * (i + range(s, -0.3, 0.3)) / 7, r = range(s, 0.11, 0.15) * shrink;
            sid2_point at = {x + shift + 0.62 * width * shrink * cos(angle),
                             middle + shift + 0.6 * (middle - top) * shrink * sin(angle)};
            sid2_ellipse(c, at, r * 1.12, r, 0, glass(tone, layer == 2 ? 0.6 : 1, 0.008));
        }
        if (layer < 2)
            sid2_ellipse(c, (sid2_point){x + shift, middle + shift}, 0.6 * width, 0.7 * (middle - top), 0,
                         glass(tone, 1, 0.01));
    }
}

static void window(sid2_canvas *c, double x, double y, double w, double h, sid2_colour pane)
{
    sid2_point frame[4] = {{x - w, y - h}, {x + w, y - h}, {x + w, y + h}, {x - w, y + h}};
    sid2_polygon(c, frame, 4, sid2_flat(sid2_rgb(0xf7f3ea)));
    for (int i = 0; i < 4; i++) {
        double px = x + (i % 2 ? 0.46 : -0.46) * w, py = y + (i / 2 ? 0.46 : -0.46) * h, a = 0.36 * w,
               b = 0.36 * h;
        sid2_point quarter[4] = {{px - a, py - b}, {px + a, py - b}, {px + a, py + b}, {px - a, py + b}};
        sid2_polygon(c, quarter, 4, (sid2_paint){.from = sid2_mix(pane, white, 0.35), .to = pane});
    }
}

static void house(sid2_canvas *c, stream *s)
{
    day_sky(c, s, 0.75);
    clouds(c, s, 0.1, 0.26);
    double ground = meadow(c, s, range(s, 0.72, 0.78)) + 0.1, x = range(s, 0.42, 0.58);
    double half = range(s, 0.25, 0.31), wall = range(s, 0.46, 0.52), top = wall - range(s, 0.22, 0.3);
    sid2_colour paint = PICK(s, 0xf2e3c6, 0xe9c9a2, 0xd7e3ea, 0xf0d3cf, 0xcfe0c4);
    sid2_colour tiles = PICK(s, 0xb5442f, 0x8e3b36, 0x5b6474, 0x7a4e3a, 0x35637a);
    sid2_colour pane = PICK(s, 0x6fa5c9, 0x8fbcd4, 0xf6d36b);
    double chimney = x + (pick(s, 2) ? 0.5 : -0.62) * half;
    sid2_point stack[4] = {
        {chimney, top + 0.02}, {chimney + 0.07, top + 0.02}, {chimney + 0.07, wall}, {chimney, wall}};
    sid2_polygon(c, stack, 4, sid2_shaded(sid2_rgb(0x9a5a48), 0.4));
    sid2_ellipse(c, (sid2_point){x + 0.04, ground}, half * 1.25, 0.035, 0,
                 glass(sid2_rgb(0x1f3a24), 0.4, 0.03));
    sid2_point body[4] = {{x - half, wall}, {x + half, wall}, {x + half, ground}, {x - half, ground}};
    sid2_polygon(c, body, 4, (sid2_paint){.from = paint, .to = sid2_mix(paint, sid2_rgb(0x5a4a5a), 0.28)});
    sid2_point shadow[4] = {
        {x - half, wall}, {x + half, wall}, {x + half, wall + 0.03}, {x - half, wall + 0.03}};
    sid2_polygon(c, shadow, 4, glass(sid2_rgb(0x3a2a3a), 0.35, 0.01));
    double eave = half + 0.06, ridge = pick(s, 2) ? 0.0 : half * 0.5;
    sid2_point roof[4] = {
        {x - eave, wall + 0.01}, {x - ridge, top}, {x + ridge, top}, {x + eave, wall + 0.01}};
    sid2_polygon(c, roof, 4,
                 (sid2_paint){.from = sid2_mix(tiles, white, 0.2), .to = sid2_mix(tiles, black, 0.2)});
    double side = pick(s, 2) ? 1 : -1, door = x + side * half * 0.42, w = half * 0.2;
    sid2_colour wood = PICK(s, 0x6a3f2a, 0x3f5f4a, 0x7c2f2f, 0x37507a);
    sid2_point leaf[4] = {
        {door - w, ground - 0.2}, {door + w, ground - 0.2}, {door + w, ground}, {door - w, ground}};
    sid2_polygon(c, leaf, 4, sid2_shaded(wood, 0.3));
    sid2_ellipse(c, (sid2_point){door + 0.6 * w, ground - 0.09}, 0.01, 0.01, 0,
                 sid2_flat(sid2_rgb(0xf5d77a)));
    window(c, x - side * half * 0.42, 0.5 * (wall + ground) - 0.01, 0.085, 0.075, pane);
    sid2_point path[4] = {
        {door - w, ground}, {door + w, ground}, {door + 2.2 * w, 1.02}, {door - 1.6 * w, 1.02}};
    sid2_polygon(c, path, 4, sid2_flat(sid2_rgb(0xd9c7a0)));
}

static void flower(sid2_canvas *c, stream *s)
{
    sid2_colour back = PICK(s, 0x5f9a5a, 0x7fae6a, 0x4f8f7a, 0x86a8a0),
                deep = sid2_mix(back, sid2_rgb(0x173022), 0.55);
    sid2_gradient(c, -0.1, 1.01, sid2_mix(back, white, 0.35), deep);
    bokeh(c, s, sid2_rgb(0xf3f0b0), 7);
    sid2_point heart = {range(s, 0.4, 0.6), range(s, 0.34, 0.44)},
               foot = {heart.x + range(s, -0.1, 0.1), 1.05};
    sid2_colour green = PICK(s, 0x3c7d35, 0x4f8f3a);
    sid2_stroke(c, foot, heart, 0.026, 0.018, sid2_flat(green));
    for (int side = -1; side <= 1; side += 2) {
        double y = range(s, 0.72, 0.84), angle = side * range(s, -0.75, -0.4);
        sid2_point at = {foot.x + (heart.x - foot.x) * (1.05 - y) / 0.65 + side * 0.13, y};
        sid2_ellipse(c, at, 0.15, 0.05, angle, sid2_shaded(sid2_mix(green, white, 0.1), 0.35));
    }
    static const double hues[] = {0.99, 0.93, 0.86, 0.77, 0.64, 0.14, 0.06};
    double hue = hues[pick(s, 7)] + range(s, -0.02, 0.02);
    sid2_colour petal =
        pick(s, 7) ? sid2_hsv(hue, range(s, 0.55, 0.85), range(s, 0.88, 1)) : sid2_rgb(0xfaf6f2);
    int petals = 5 + pick(s, 5);
    double length = range(s, 0.14, 0.17), turn = range(s, 0, TAU),
           width = fmin(0.1, 0.52 / petals) * range(s, 0.9, 1.15);
    for (int layer = 0; layer < 2; layer++)
        for (int i = 0; i < petals; i++) {
            double angle = turn + TAU * (i + 0.5 * layer) / petals, reach = length * (layer ? 0.72 : 1.05);
            sid2_point at = {heart.x + reach * cos(angle), heart.y + reach * sin(angle)};
            sid2_colour tone =
                layer ? sid2_mix(petal, white, 0.22) : sid2_mix(petal, sid2_rgb(0x40104a), 0.18);
            sid2_ellipse(c, at, length * (layer ? 0.72 : 0.98), width, angle,
                         (sid2_paint){.from = sid2_mix(tone, white, 0.15), .to = sid2_mix(tone, black, 0.1)});
        }
    double r = range(s, 0.065, 0.09);
    sid2_colour centre = hue > 0.1 && hue < 0.2 ? sid2_rgb(0x7a4a22) : sid2_rgb(0xf6c430);
    sid2_ellipse(c, heart, r, r, 0, sid2_shaded(centre, 0.45));
}

static void night(sid2_canvas *c, stream *s)
{
    sid2_colour top = PICK(s, 0x070b26, 0x0b1030, 0x120a2c), low = PICK(s, 0x2a3f78, 0x3a3470, 0x1f4a6a);
    sid2_gradient(c, -0.05, 0.85, top, low);
    int stars = 22 + pick(s, 16);
    for (int i = 0; i < stars; i++) {
        double r = range(s, 0.004, 0.012);
        sid2_ellipse(c, (sid2_point){range(s, 0, 1), range(s, 0, 0.75)}, r, r, 0,
                     glass(sid2_rgb(0xfff6dc), range(s, 0.5, 1), 0.004));
    }
    sid2_point moon = {range(s, 0.28, 0.72), range(s, 0.24, 0.4)};
    double r = range(s, 0.14, 0.2);
    sid2_glow(c, moon, r * 2.6, sid2_rgb(0xbfcdf5), 0.5);
    sid2_paint light = {.from = sid2_rgb(0xfffdf0), .to = sid2_rgb(0xe6d9a8)};
    if (pick(s, 3)) {
        double side = pick(s, 2) ? 1 : -1;
        sid2_ellipse_cut(c, moon, r, r,
                         (sid2_point){moon.x + side * r * range(s, 0.45, 0.7), moon.y - 0.12 * r}, r * 0.92,
                         r * 0.92, false, light);
    } else {
        sid2_ellipse(c, moon, r, r, 0, light);
        for (int i = 0; i < 4; i++) {
            double angle = range(s, 0, TAU), away = range(s, 0.1, 0.62) * r, crater = range(s, 0.1, 0.22) * r;
            sid2_ellipse(c, (sid2_point){moon.x + away * cos(angle), moon.y + away * sin(angle)}, crater,
                         crater, 0, glass(sid2_rgb(0xc9bd94), 0.7, 0.01));
        }
    }
    sid2_colour hill = sid2_mix(low, top, 0.45);
    hills(c, s, range(s, 0.7, 0.78), 0.06, hill, sid2_mix(hill, low, 0.5));
    hills(c, s, range(s, 0.85, 0.9), 0.05, sid2_mix(top, black, 0.55), sid2_mix(top, black, 0.2));
}

static void balloon(sid2_canvas *c, stream *s)
{
    day_sky(c, s, 0.95);
    clouds(c, s, 0.12, 0.8);
    clouds(c, s, 0.55, 0.85);
    sid2_point at = {range(s, 0.4, 0.6), range(s, 0.34, 0.42)};
    double r = range(s, 0.24, 0.29), tip = at.y + r * 1.42, hue = range(s, 0, 1);
    sid2_colour first = sid2_hsv(hue, range(s, 0.7, 0.85), range(s, 0.82, 0.95));
    sid2_colour second = pick(s, 2) ? sid2_rgb(0xfbf0d2) : sid2_hsv(hue + range(s, 0.3, 0.55), 0.7, 0.95);
    for (int i = 0; i < 4; i++) { /* panels: nested ellipses and cones, every other one of each colour */
        static const double widths[] = {1, 0.74, 0.44, 0.15};
        double w = r * widths[i];
        sid2_colour tone = i % 2 ? second : first;
        sid2_point cone[4] = {{at.x - w * 0.9, at.y + 0.44 * r},
                              {at.x + w * 0.9, at.y + 0.44 * r},
                              {at.x + w * 0.24, tip},
                              {at.x - w * 0.24, tip}};
        sid2_polygon(c, cone, 4, sid2_flat(sid2_mix(tone, black, 0.14)));
        sid2_ellipse(c, at, w, r * 1.06, 0,
                     (sid2_paint){.from = sid2_mix(tone, white, 0.12), .to = sid2_mix(tone, black, 0.16)});
    }
    sid2_ellipse_cut(c, at, r, r * 1.06, (sid2_point){at.x - 0.28 * r, at.y - 0.16 * r}, r, r * 1.1, false,
                     glass(sid2_rgb(0x1a1440), 0.3, 0.03));
    sid2_ellipse(c, (sid2_point){at.x - 0.36 * r, at.y - 0.42 * r}, 0.2 * r, 0.3 * r, 0.5,
                 glass(white, 0.35, 0.06));
    double basket = tip + 0.09, w = 0.055;
    for (int side = -1; side <= 1; side += 2)
        sid2_stroke(c, (sid2_point){at.x + side * 0.22 * r, tip}, (sid2_point){at.x + side * w * 0.9, basket},
                    0.006, 0.006, sid2_flat(sid2_rgb(0x4a3a30)));
    sid2_point box[4] = {{at.x - w, basket},
                         {at.x + w, basket},
                         {at.x + w * 0.8, basket + 0.085},
                         {at.x - w * 0.8, basket + 0.085}};
    sid2_polygon(c, box, 4, sid2_shaded(sid2_rgb(0x9a6a3a), 0.5));
}

static void fish(sid2_canvas *c, stream *s)
{
    sid2_colour water = PICK(s, 0x2f9fc0, 0x2a86b8, 0x34a89a),
                deep = sid2_mix(water, sid2_rgb(0x06204a), 0.72);
    sid2_gradient(c, -0.05, 1.01, sid2_mix(water, white, 0.42), deep);
    for (int i = 0; i < 3; i++) {
        double x = range(s, 0, 1);
        sid2_point ray[4] = {{x, -0.02}, {x + 0.08, -0.02}, {x - 0.05, 0.85}, {x - 0.28, 0.85}};
        sid2_polygon(c, ray, 4, glass(white, 0.1, 0.05));
    }
    sid2_colour sand = PICK(s, 0xcdbb8a, 0xb7a98c);
    hills(c, s, range(s, 0.88, 0.93), 0.02, sid2_mix(sand, deep, 0.45), sid2_mix(sand, water, 0.25));
    int weeds = 2 + pick(s, 4);
    for (int i = 0; i < weeds; i++) {
        double x = pick(s, 2) ? range(s, 0.02, 0.25) : range(s, 0.75, 0.98);
        sid2_stroke(c, (sid2_point){x, 1}, (sid2_point){x + range(s, -0.06, 0.06), range(s, 0.6, 0.8)}, 0.022,
                    0.006, sid2_flat(sid2_mix(sid2_rgb(0x2f7a4a), deep, range(s, 0, 0.4))));
    }
    static const double hues[] = {0.04, 0.08, 0.13, 0.97, 0.9, 0.3, 0.78};
    double hue = hues[pick(s, 7)] + range(s, -0.02, 0.02), way = pick(s, 2) ? 1 : -1; /* 1: swims right */
    sid2_colour skin = sid2_hsv(hue, range(s, 0.72, 0.9), range(s, 0.9, 1)),
                fin = sid2_mix(skin, sid2_hsv(hue + 0.08, 0.8, 0.8), 0.6);
    sid2_colour stripe = pick(s, 2) ? white : sid2_mix(skin, sid2_rgb(0x1a1030), 0.65);
    sid2_point at = {range(s, 0.46, 0.54) + 0.04 * way, range(s, 0.4, 0.56)};
    double rx = range(s, 0.26, 0.31), ry = range(s, 0.15, 0.2), tail = at.x - way * rx * 0.86;
    sid2_point fan[5] = {{tail, at.y},
                         {tail - way * 0.18, at.y - ry * 0.95},
                         {tail - way * 0.13, at.y},
                         {tail - way * 0.18, at.y + ry * 0.95},
                         {tail, at.y}};
    sid2_polygon(c, fan, 5, sid2_shaded(fin, 0.35));
    sid2_point back[4] = {{at.x + way * 0.3 * rx, at.y - 0.8 * ry},
                          {at.x - way * 0.15 * rx, at.y - 1.6 * ry},
                          {at.x - way * 0.6 * rx, at.y - 1.25 * ry},
                          {at.x - way * 0.6 * rx, at.y - 0.6 * ry}};
    sid2_polygon(c, back, 4, sid2_shaded(fin, 0.35));
    sid2_ellipse(c, at, rx, ry, 0, sid2_shaded(skin, 0.5));
    int stripes = pick(s, 4);
    for (int i = 0; i < stripes; i++) {
        sid2_point band = {at.x + way * rx * (0.28 - 0.38 * i), at.y};
        sid2_ellipse_cut(c, at, rx, ry, band, rx * 0.1, ry * 1.3, true, glass(stripe, 0.85, 0.006));
    }
    sid2_ellipse_cut(c, at, rx, ry, (sid2_point){at.x, at.y + 1.2 * ry}, rx * 1.1, ry * 0.8, true,
                     glass(white, 0.28, 0.03));
    sid2_ellipse(c, (sid2_point){at.x - way * 0.05 * rx, at.y + 0.3 * ry}, rx * 0.24, ry * 0.26, -way * 0.5,
                 sid2_shaded(fin, 0.4));
    sid2_point eye = {at.x + way * rx * 0.62, at.y - ry * 0.22};
    sid2_ellipse(c, eye, 0.042, 0.042, 0, sid2_flat(white));
    sid2_ellipse(c, (sid2_point){eye.x + way * 0.01, eye.y}, 0.025, 0.025, 0, sid2_flat(sid2_rgb(0x10142a)));
    int bubbles = 3 + pick(s, 4);
    for (int i = 0; i < bubbles; i++) {
        double r = range(s, 0.012, 0.03);
        sid2_point b = {at.x + way * (rx + range(s, 0.02, 0.12)), at.y - 0.05 - i * range(s, 0.05, 0.09)};
        sid2_ellipse(c, b, r, r, 0, glass(sid2_rgb(0xe8fbff), 0.55, 0.004));
    }
}

static void sailboat(sid2_canvas *c, stream *s)
{
    double horizon = range(s, 0.56, 0.66);
    day_sky(c, s, horizon);
    clouds(c, s, 0.12, 0.36);
    sid2_colour sea = PICK(s, 0x1f6fa8, 0x2a86a0, 0x2f5f9a);
    sid2_gradient(c, horizon, 1.01, sid2_mix(sea, white, 0.32), sid2_mix(sea, sid2_rgb(0x05183a), 0.5));
    double x = range(s, 0.42, 0.58), deck = range(s, 0.68, 0.74), way = pick(s, 2) ? 1 : -1,
           top = range(s, 0.1, 0.17);
    static const uint32_t cloths[] = {0xfbf8ef, 0xfbf8ef, 0xe2523d, 0xf2b134, 0x3f8fc4, 0xee7fa0};
    sid2_colour sail = sid2_rgb(cloths[pick(s, 6)]), jib = sid2_rgb(cloths[pick(s, 6)]);
    sid2_colour hull = PICK(s, 0x7a3f2a, 0x2f3f5f, 0x9a2f2f, 0xe8e2d6);
    double boom = deck - 0.05, bow = x + way * 0.29, stern = x - way * 0.25;
    sid2_ellipse(c, (sid2_point){x, deck + 0.14}, 0.27, 0.05, 0, glass(sid2_mix(hull, sea, 0.5), 0.6, 0.04));
    sid2_stroke(c, (sid2_point){x, deck}, (sid2_point){x, top - 0.02}, 0.012, 0.008,
                sid2_flat(sid2_rgb(0x5a4030)));
    sid2_point main_sail[3] = {{x - way * 0.018, top}, {x - way * 0.018, boom}, {x - way * 0.25, boom}};
    sid2_polygon(
        c, main_sail, 3,
        (sid2_paint){.from = sid2_mix(sail, white, 0.15), .to = sid2_mix(sail, sid2_rgb(0x5a5f80), 0.25)});
    sid2_point fore_sail[3] = {{x + way * 0.02, top + 0.08}, {x + way * 0.02, boom}, {x + way * 0.22, boom}};
    sid2_polygon(
        c, fore_sail, 3,
        (sid2_paint){.from = sid2_mix(jib, white, 0.1), .to = sid2_mix(jib, sid2_rgb(0x5a5f80), 0.32)});
    sid2_point body[4] = {
        {stern, deck - 0.01}, {bow, deck - 0.025}, {x + way * 0.19, deck + 0.1}, {x - way * 0.2, deck + 0.1}};
    sid2_polygon(c, body, 4, sid2_shaded(hull, 0.4));
    sid2_stroke(c, (sid2_point){stern, deck}, (sid2_point){bow, deck - 0.015}, 0.009, 0.009,
                sid2_flat(sid2_rgb(0xf6efe0)));
    for (int i = 0; i < 9; i++) {
        double y = horizon + 0.06 + (1 - horizon) * range(s, 0, 1), t = (y - horizon) / (1 - horizon);
        sid2_ellipse(c, (sid2_point){range(s, 0, 1), y}, 0.04 + 0.09 * t, 0.004 + 0.005 * t, 0,
                     glass(sid2_rgb(0xe6f6fb), 0.6, 0.004));
    }
    sid2_ellipse(c, (sid2_point){x, deck + 0.105}, 0.26, 0.014, 0, glass(sid2_rgb(0xf2fbff), 0.8, 0.008));
}

static void mushroom(sid2_canvas *c, stream *s)
{
    sid2_colour wood = PICK(s, 0x2f5a3f, 0x3f6a3a, 0x4a5a34, 0x2a5058);
    sid2_gradient(c, -0.1, 1.01, sid2_mix(wood, sid2_rgb(0xe8eeb0), 0.42), sid2_mix(wood, black, 0.5));
    bokeh(c, s, sid2_rgb(0xe6efa0), 8);
    for (int i = 0; i < 3; i++) {
        double x = pick(s, 2) ? range(s, -0.02, 0.22) : range(s, 0.78, 1.02);
        sid2_stroke(c, (sid2_point){x, -0.05}, (sid2_point){x + range(s, -0.03, 0.03), 1.05}, 0.03, 0.05,
                    glass(sid2_mix(wood, sid2_rgb(0x1a1410), 0.6), 0.5, 0.04));
    }
    sid2_colour moss = PICK(s, 0x4f7f35, 0x5f7a34, 0x3f6f3f);
    double ground = hills(c, s, range(s, 0.83, 0.87), 0.02, sid2_mix(moss, black, 0.4), moss) + 0.05;
    double x = range(s, 0.42, 0.58), top = range(s, 0.18, 0.26), rx = range(s, 0.29, 0.36),
           ry = range(s, 0.26, 0.33), rim = top + ry;
    sid2_colour cap = PICK(s, 0xc8281f, 0xd8412a, 0xb5232f, 0xd9772a, 0x8a5a34, 0x7a3f8a),
                stem = PICK(s, 0xf4ead2, 0xe9dcc0);
    sid2_ellipse(c, (sid2_point){x + 0.04, ground}, 0.24, 0.035, 0, glass(black, 0.4, 0.03));
    sid2_stroke(
        c, (sid2_point){x + range(s, -0.03, 0.03), ground - 0.06}, (sid2_point){x, rim}, 0.105, 0.075,
        (sid2_paint){.from = sid2_mix(stem, white, 0.2), .to = sid2_mix(stem, sid2_rgb(0x6a5a50), 0.5)});
    sid2_ellipse(c, (sid2_point){x, rim + 0.01}, rx * 0.93, ry * 0.24, 0,
                 (sid2_paint){.from = sid2_mix(stem, sid2_rgb(0x5a4038), 0.5),
                              .to = sid2_mix(stem, sid2_rgb(0x5a4038), 0.2)});
    sid2_point middle = {x, rim}, hollow = {x, rim + ry * 0.98};
    sid2_ellipse_cut(c, middle, rx, ry, hollow, rx * 1.35, ry, false, sid2_shaded(cap, 0.55));
    int spots = 6 + pick(s, 4);
    for (int i = 0; i < spots; i++) { /* round the dome: flatter towards its rim */
        double angle = TAU * i / spots + range(s, -0.25, 0.25),
               away = i % 2 ? range(s, 0.62, 0.82) : range(s, 0.15, 0.45);
        sid2_point at = {x + rx * away * cos(angle), rim - ry * (0.45 + 0.42 * away * sin(angle))};
        double r = range(s, 0.028, 0.048);
        if (fabs(at.x - x) < 0.85 * rx)
            sid2_ellipse(c, at, r * (1.15 - 0.5 * away), r * 0.9, 0, glass(sid2_rgb(0xfff8ea), 0.95, 0.004));
    }
    grass(c, s, ground, moss, 26);
}

_Static_assert(__COUNTER__ <= MAX_PLACES, "more places draw than streams are kept for");

static const struct {
    const char *name;
    void (*paint)(sid2_canvas *canvas, stream *s);
} scenes[SID2_SYNTH_CLASSES] = {
    {"sunset", sunset},     {"mountains", mountains}, {"tree", tree},       {"house", house},
    {"flower", flower},     {"night", night},         {"balloon", balloon}, {"fish", fish},
    {"sailboat", sailboat}, {"mushroom", mushroom},
};

const char *sid2_synth_class_name(int32_t label)
{
    return label >= 0 && label < SID2_SYNTH_CLASSES ? scenes[label].name : "?";
}

int32_t sid2_synth_label(uint64_t index) { return (int32_t)(index % SID2_SYNTH_CLASSES); }

int32_t sid2_synth_classes(int64_t count)
{
    return count < SID2_SYNTH_CLASSES ? (int32_t)count : SID2_SYNTH_CLASSES;
}

bool sid2_synth_render(uint64_t seed, uint64_t index, int32_t size, uint8_t *pixels, sid2_error *err)
{
    enum { FINE = 128 }; /* details are made for at least this many pixels */
    if (size < 1 || size > SID2_SYNTH_MAX_SIZE)
        return sid2_fail(err, SID2_ERR_USAGE, "picture size %d is outside 1..%d", size, SID2_SYNTH_MAX_SIZE);
    int32_t factor = 2 * size >= FINE ? 2 : (FINE + size - 1) / size;
    sid2_canvas canvas = {.side = size * factor};
    canvas.rgb = calloc((size_t)canvas.side * (size_t)canvas.side * 3, sizeof *canvas.rgb);
    if (!canvas.rgb) return sid2_fail(err, SID2_ERR_MEMORY, "no memory for a picture of %dx%d", size, size);
    scenes[sid2_synth_label(index)].paint(&canvas, &(stream){.seed = seed, .picture = index});
    sid2_canvas_reduce(&canvas, size, pixels);
    free(canvas.rgb);
    return true;
}
