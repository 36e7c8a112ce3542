#include "shapes.h"

#include "philox.h"

#include <math.h>
#include <string.h>

/* ---- What a clip is ---- */

enum { PLACE_COUNT, PLACE_CHANNELS, PLACE_SHAPES = 16, PLACES = 16 /* of a shape */ };

static double draw(uint64_t seed, uint64_t index, int place, double low, double high)
{
    uint32_t word = sid2_philox_word(seed, index, SID2_PURPOSE_SYNTH, (uint64_t)place);
    return low + (high - low) * (double)sid2_uniform(word);
}

sid2_shapes sid2_shapes_of(uint64_t seed, uint64_t index)
{
    static const int32_t orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    sid2_shapes s = {.kind = (int32_t)(index % SID2_SHAPE_KINDS),
                     .count = 1 + (int32_t)draw(seed, index, PLACE_COUNT, 0, SID2_SHAPES_MOST)};
    const int32_t *order = orders[(int)draw(seed, index, PLACE_CHANNELS, 0, 6)];
    for (int i = 0; i < s.count; i++) {
        int place = PLACE_SHAPES + PLACES * i;
        sid2_moving_shape *m = &s.shape[i];
        double speed = draw(seed, index, place, 0.03, 0.08),
               way = draw(seed, index, place + 1, 0, 2 * 3.14159265358979323846);
        m->channel = order[i];
        m->radius = draw(seed, index, place + 2, 0.12, 0.18);
        m->brightness = draw(seed, index, place + 3, 0.75, 1);
        for (int axis = 0; axis < 2; axis++)
            m->start[axis] = draw(seed, index, place + 4 + axis, m->radius, 1 - m->radius);
        m->speed[0] = speed * cos(way);
        m->speed[1] = speed * sin(way);
    }
    return s;
}

/* The way without edges, folded between them. */
void sid2_shapes_centre(const sid2_moving_shape *m, int32_t frame, double centre[2])
{
    for (int axis = 0; axis < 2; axis++) {
        double room = 1 - 2 * m->radius, at = m->start[axis] - m->radius + frame * m->speed[axis];
        at = fabs(fmod(at, 2 * room));
        centre[axis] = m->radius + (at > room ? 2 * room - at : at);
    }
}

/* ---- What it looks like ---- */

/* Each has its centroid at 0 and fits into a circle of radius 1. */
static bool is_in_circle(double x, double y) { return x * x + y * y < 1; }
static bool is_in_cross(double x, double y)
{
    x = fabs(x), y = fabs(y);
    return (x < 0.3 && y < 0.95) || (y < 0.3 && x < 0.95);
}
static bool is_in_square(double x, double y) { return fabs(x) < 0.7 && fabs(y) < 0.7; }
static bool is_in_triangle(double x, double y) { return y < 0.5 && 1.7320508075688772 * fabs(x) < 1 + y; }

static const struct {
    const char *name;
    bool (*holds)(double x, double y);
} kinds[SID2_SHAPE_KINDS] = {
    {"circle", is_in_circle}, {"cross", is_in_cross}, {"square", is_in_square}, {"triangle", is_in_triangle}};

const char *sid2_shape_kind(int32_t kind) { return kinds[kind].name; }

/* How much of a pixel lies within, by FINE x FINE points. */
static double coverage(int32_t kind, double left, double top, double pixel)
{
    enum { FINE = 8 };
    int found = 0;
    for (int j = 0; j < FINE; j++)
        for (int i = 0; i < FINE; i++)
            found += kinds[kind].holds(left + pixel * (i + 0.5) / FINE, top + pixel * (j + 0.5) / FINE);
    return found / (double)(FINE * FINE);
}

void sid2_shapes_render(const sid2_shapes *s, int32_t frame, int32_t size, uint8_t *pixels)
{
    memset(pixels, 0, (size_t)size * (size_t)size * 3);
    for (int i = 0; i < s->count; i++) {
        const sid2_moving_shape *m = &s->shape[i];
        double centre[2], pixel = 1 / (m->radius * size);
        int32_t first[2], last[2];
        sid2_shapes_centre(m, frame, centre);
        for (int axis = 0; axis < 2; axis++) {
            first[axis] = (int32_t)fmax(0, floor((centre[axis] - m->radius) * size));
            last[axis] = (int32_t)fmin(size - 1, floor((centre[axis] + m->radius) * size));
        }
        for (int32_t y = first[1]; y <= last[1]; y++)
            for (int32_t x = first[0]; x <= last[0]; x++) {
                double left = (x - centre[0] * size) * pixel, top = (y - centre[1] * size) * pixel;
                pixels[((size_t)y * (size_t)size + (size_t)x) * 3 + (size_t)m->channel] =
                    (uint8_t)lround(255 * m->brightness * coverage(s->kind, left, top, pixel));
            }
    }
}
