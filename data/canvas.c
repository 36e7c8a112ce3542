#include "canvas.h"

#include <math.h>

sid2_colour sid2_rgb(uint32_t hex)
{
    return (sid2_colour){(hex >> 16 & 255) / 255.0, (hex >> 8 & 255) / 255.0, (hex & 255) / 255.0};
}

static double clamp01(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }

sid2_colour sid2_mix(sid2_colour a, sid2_colour b, double t)
{
    return (sid2_colour){a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}

sid2_colour sid2_hsv(double hue, double saturation, double value)
{
    double channel[3], h = (hue - floor(hue)) * 6;
    for (int i = 0; i < 3; i++) { /* red peaks at 0, green at 2, blue at 4 */
        double away = fabs(h - 2.0 * i);
        if (away > 3) away = 6 - away;
        channel[i] = value * (1 - saturation * (1 - clamp01(2 - away)));
    }
    return (sid2_colour){channel[0], channel[1], channel[2]};
}

sid2_paint sid2_flat(sid2_colour colour) { return (sid2_paint){.from = colour, .to = colour}; }

sid2_paint sid2_shaded(sid2_colour colour, double contrast)
{
    sid2_colour white = {1, 1, 0.95}, shade = {colour.r * 0.45, colour.g * 0.42, colour.b * 0.55};
    return (sid2_paint){.from = sid2_mix(colour, white, 0.45 * contrast),
                        .to = sid2_mix(colour, shade, contrast)};
}

static void blend(float *pixel, sid2_colour colour, double alpha)
{
    pixel[0] += (float)((colour.r - pixel[0]) * alpha);
    pixel[1] += (float)((colour.g - pixel[1]) * alpha);
    pixel[2] += (float)((colour.b - pixel[2]) * alpha);
}

void sid2_gradient(sid2_canvas *canvas, double y0, double y1, sid2_colour top, sid2_colour bottom)
{
    double side = canvas->side;
    for (int32_t j = 0; j < canvas->side; j++) {
        double y = (j + 0.5) / side, alpha = clamp01((y - y0) * side + 0.5) * clamp01((y1 - y) * side + 0.5);
        if (alpha <= 0) continue;
        sid2_colour colour = sid2_mix(top, bottom, clamp01((y - y0) / (y1 - y0)));
        for (int32_t i = 0; i < canvas->side; i++)
            blend(canvas->rgb + 3 * ((size_t)j * (size_t)canvas->side + (size_t)i), colour, alpha);
    }
}

/* ---- Shapes: a signed distance (negative inside) over a box ---- */

typedef struct box {
    double x0, y0, x1, y1;
} box;

typedef double distance(const void *shape, sid2_point p);

static int32_t to_pixel(double x, int32_t side)
{
    double pixel = floor(x * side);
    return pixel < 0 ? 0 : pixel > side ? side : (int32_t)pixel;
}

static void fill(sid2_canvas *canvas, distance *of, const void *shape, box b, sid2_paint paint)
{
    double side = canvas->side, edge = 1 / side + paint.blur, alpha = paint.alpha > 0 ? paint.alpha : 1;
    double width = b.x1 - b.x0 + 1e-9, height = b.y1 - b.y0 + 1e-9;
    int32_t i0 = to_pixel(b.x0 - edge, canvas->side), i1 = to_pixel(b.x1 + edge + 1 / side, canvas->side);
    int32_t j0 = to_pixel(b.y0 - edge, canvas->side), j1 = to_pixel(b.y1 + edge + 1 / side, canvas->side);
    for (int32_t j = j0; j < j1; j++)
        for (int32_t i = i0; i < i1; i++) {
            sid2_point p = {(i + 0.5) / side, (j + 0.5) / side};
            double cover = clamp01(0.5 - of(shape, p) / edge);
            if (cover <= 0) continue;
            double along = clamp01(0.35 * (p.x - b.x0) / width + 0.65 * (p.y - b.y0) / height);
            blend(canvas->rgb + 3 * ((size_t)j * (size_t)canvas->side + (size_t)i),
                  sid2_mix(paint.from, paint.to, along), cover * alpha);
        }
}

typedef struct ellipse {
    sid2_point centre;
    double rx, ry, cosine, sine;
} ellipse;

/* Exact on the border, and first order near it: |p| scaled to the unit circle over its gradient. */
static double ellipse_distance(const void *shape, sid2_point p)
{
    const ellipse *e = shape;
    double x = p.x - e->centre.x, y = p.y - e->centre.y;
    double u = (x * e->cosine + y * e->sine) / e->rx, v = (y * e->cosine - x * e->sine) / e->ry;
    double length = sqrt(u * u + v * v), slope = sqrt(u * u / (e->rx * e->rx) + v * v / (e->ry * e->ry));
    return slope > 0 ? length * (length - 1) / slope : -fmin(e->rx, e->ry);
}

static box ellipse_box(const ellipse *e)
{
    double a = e->rx * e->cosine, b = e->ry * e->sine, c = e->rx * e->sine, d = e->ry * e->cosine;
    double w = sqrt(a * a + b * b), h = sqrt(c * c + d * d);
    return (box){e->centre.x - w, e->centre.y - h, e->centre.x + w, e->centre.y + h};
}

void sid2_ellipse(sid2_canvas *canvas, sid2_point centre, double rx, double ry, double angle,
                  sid2_paint paint)
{
    ellipse e = {centre, rx, ry, cos(angle), sin(angle)};
    fill(canvas, ellipse_distance, &e, ellipse_box(&e), paint);
}

typedef struct cut_ellipse {
    ellipse whole, cut;
    bool inside;
} cut_ellipse;

static double cut_distance(const void *shape, sid2_point p)
{
    const cut_ellipse *c = shape;
    double cut = ellipse_distance(&c->cut, p);
    return fmax(ellipse_distance(&c->whole, p), c->inside ? cut : -cut);
}

void sid2_ellipse_cut(sid2_canvas *canvas, sid2_point centre, double rx, double ry, sid2_point cut,
                      double cut_rx, double cut_ry, bool inside, sid2_paint paint)
{
    cut_ellipse c = {{centre, rx, ry, 1, 0}, {cut, cut_rx, cut_ry, 1, 0}, inside};
    fill(canvas, cut_distance, &c, ellipse_box(&c.whole), paint);
}

typedef struct stroke {
    sid2_point a, b;
    double r0, r1;
} stroke;

static double stroke_distance(const void *shape, sid2_point p)
{
    const stroke *s = shape;
    double dx = s->b.x - s->a.x, dy = s->b.y - s->a.y, x = p.x - s->a.x, y = p.y - s->a.y;
    double t = clamp01((x * dx + y * dy) / (dx * dx + dy * dy + 1e-12));
    double u = x - t * dx, v = y - t * dy;
    return sqrt(u * u + v * v) - (s->r0 + (s->r1 - s->r0) * t);
}

void sid2_stroke(sid2_canvas *canvas, sid2_point a, sid2_point b, double r0, double r1, sid2_paint paint)
{
    stroke s = {a, b, r0, r1};
    double r = fmax(r0, r1);
    box bounds = {fmin(a.x, b.x) - r, fmin(a.y, b.y) - r, fmax(a.x, b.x) + r, fmax(a.y, b.y) + r};
    fill(canvas, stroke_distance, &s, bounds, paint);
}

typedef struct polygon {
    const sid2_point *points;
    int count;
} polygon;

static double polygon_distance(const void *shape, sid2_point p)
{
    const polygon *s = shape;
    double nearest = 1e9;
    bool inside = false;
    for (int i = 0, k = s->count - 1; i < s->count; k = i++) {
        sid2_point a = s->points[i], b = s->points[k];
        nearest = fmin(nearest, stroke_distance(&(stroke){a, b, 0, 0}, p));
        if ((a.y > p.y) != (b.y > p.y) && p.x < (b.x - a.x) * (p.y - a.y) / (b.y - a.y) + a.x)
            inside = !inside;
    }
    return inside ? -nearest : nearest;
}

void sid2_polygon(sid2_canvas *canvas, const sid2_point *points, int count, sid2_paint paint)
{
    polygon s = {points, count};
    box b = {1e9, 1e9, -1e9, -1e9};
    for (int i = 0; i < count; i++)
        b = (box){fmin(b.x0, points[i].x), fmin(b.y0, points[i].y), fmax(b.x1, points[i].x),
                  fmax(b.y1, points[i].y)};
    fill(canvas, polygon_distance, &s, b, paint);
}

typedef struct curve {
    const double *height;
    int count;
} curve;

static double ground_distance(const void *shape, sid2_point p)
{
    const curve *c = shape;
    double at = clamp01(p.x) * (c->count - 1);
    int i = (int)at < c->count - 1 ? (int)at : c->count - 2;
    double t = at - i;
    t = t * t * (3 - 2 * t);
    return c->height[i] + (c->height[i + 1] - c->height[i]) * t - p.y;
}

void sid2_ground(sid2_canvas *canvas, const double *height, int count, sid2_paint paint)
{
    curve c = {height, count};
    double top = 1;
    for (int i = 0; i < count; i++) top = fmin(top, height[i]);
    fill(canvas, ground_distance, &c, (box){0, top, 1, 1}, paint);
}

void sid2_glow(sid2_canvas *canvas, sid2_point centre, double radius, sid2_colour colour, double strength)
{
    int32_t side = canvas->side;
    int32_t i0 = to_pixel(centre.x - radius, side), i1 = to_pixel(centre.x + radius, side);
    int32_t j0 = to_pixel(centre.y - radius, side), j1 = to_pixel(centre.y + radius, side);
    for (int32_t j = j0; j < j1; j++)
        for (int32_t i = i0; i < i1; i++) {
            double x = (i + 0.5) / side - centre.x, y = (j + 0.5) / side - centre.y;
            double fade = 1 - sqrt(x * x + y * y) / radius;
            if (fade > 0)
                blend(canvas->rgb + 3 * ((size_t)j * (size_t)side + (size_t)i), colour,
                      strength * fade * fade);
        }
}

void sid2_canvas_reduce(const sid2_canvas *canvas, int32_t size, uint8_t *pixels)
{
    int32_t factor = canvas->side / size;
    for (int32_t y = 0; y < size; y++)
        for (int32_t x = 0; x < size; x++)
            for (int32_t c = 0; c < 3; c++) {
                double sum = 0;
                for (int32_t j = y * factor; j < (y + 1) * factor; j++)
                    for (int32_t i = x * factor; i < (x + 1) * factor; i++)
                        sum += canvas->rgb[3 * ((size_t)j * (size_t)canvas->side + (size_t)i) + (size_t)c];
                pixels[3 * ((size_t)y * (size_t)size + (size_t)x) + (size_t)c] =
                    (uint8_t)(255 * clamp01(sum / (factor * factor)) + 0.5);
            }
}
