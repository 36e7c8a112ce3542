/* Inside data/: a small painter of smooth shapes, for the generated pictures of synth.c.
 *
 * Coordinates run from 0 to 1, x right and y down. Everything is computed in double, so the bytes do not hang
 * on the last bit of a sine. The canvas is finer than the picture; averaging it down smooths every edge. */
#ifndef SID2_CANVAS_H
#define SID2_CANVAS_H

#include "base.h"

typedef struct sid2_colour {
    double r, g, b; /* 0..1, as displayed (sRGB) */
} sid2_colour;

typedef struct sid2_point {
    double x, y;
} sid2_point;

typedef struct sid2_canvas {
    int32_t side; /* pixels */
    float *rgb;   /* side x side x 3 */
} sid2_canvas;

/* A paint runs from `from` (upper left of a shape) to `to` (lower right). */
typedef struct sid2_paint {
    sid2_colour from, to;
    double alpha; /* 0: opaque, as is 1 */
    double blur;  /* width of the edge, beside the pixel's own; 0: sharp */
} sid2_paint;

sid2_colour sid2_rgb(uint32_t hex); /* 0xRRGGBB */
sid2_colour sid2_hsv(double hue, double saturation, double value);
sid2_colour sid2_mix(sid2_colour a, sid2_colour b, double t);
sid2_paint sid2_flat(sid2_colour colour);
sid2_paint sid2_shaded(sid2_colour colour, double contrast); /* lit from the upper left */

/* A vertical gradient over rows y0..y1 of the full width; constant above and below it is not: only those
 * rows. */
void sid2_gradient(sid2_canvas *canvas, double y0, double y1, sid2_colour top, sid2_colour bottom);
/* A glow that fades to nothing at `radius`. */
void sid2_glow(sid2_canvas *canvas, sid2_point centre, double radius, sid2_colour colour, double strength);
void sid2_ellipse(sid2_canvas *canvas, sid2_point centre, double rx, double ry, double angle,
                  sid2_paint paint);
/* The part of an ellipse that also lies inside (`inside`) or outside a second one. */
void sid2_ellipse_cut(sid2_canvas *canvas, sid2_point centre, double rx, double ry, sid2_point cut,
                      double cut_rx, double cut_ry, bool inside, sid2_paint paint);
/* A line whose radius goes from r0 to r1, round at both ends. */
void sid2_stroke(sid2_canvas *canvas, sid2_point a, sid2_point b, double r0, double r1, sid2_paint paint);
void sid2_polygon(sid2_canvas *canvas, const sid2_point *points, int count, sid2_paint paint);
/* Everything below the curve y = height[0..n-1], spread over the width and joined smoothly. */
void sid2_ground(sid2_canvas *canvas, const double *height, int count, sid2_paint paint);

/* Averages to size x size x 3 bytes; canvas->side is a multiple of size. */
void sid2_canvas_reduce(const sid2_canvas *canvas, int32_t size, uint8_t *pixels);

#endif
