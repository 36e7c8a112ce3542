/* Windows over frames, rows and columns, and tensors put side by side. */
#include "reference.h"

/* One element of y, but for its channel. */
typedef struct place {
    int64_t sample, to[3];
} place;

static int64_t offset_of(sid2_shape x, int64_t sample, const int64_t at[3])
{
    return (((sample * x.dim[1] + at[0]) * x.dim[2] + at[1]) * x.dim[3] + at[2]) * x.dim[4];
}

/* The channels of x under a tap of the window; NULL outside. */
static const double *under(const sid2_reference *r, const place *p, const int64_t tap[3])
{
    int64_t at[3];
    for (int i = 0; i < 3; i++) {
        at[i] = p->to[i] * r->attr->stride[i] - r->attr->before[i] + tap[i];
        if (at[i] < 0 || at[i] >= r->in_shape[0].dim[i + 1]) return NULL;
    }
    return r->in[0] + offset_of(r->in_shape[0], p->sample, at);
}

#define EACH_OF(i, extents)                                                                                  \
    for (i[0] = 0; i[0] < (extents)[0]; i[0]++)                                                              \
        for (i[1] = 0; i[1] < (extents)[1]; i[1]++)                                                          \
            for (i[2] = 0; i[2] < (extents)[2]; i[2]++)

static void convolve(const sid2_reference *r, const place *p, double *y)
{
    sid2_shape w = r->in_shape[1];
    int64_t ins = w.dim[4], tap[3];
    for (int64_t o = 0; o < w.dim[0]; o++) {
        double sum = r->in[2] ? r->in[2][o] : 0;
        EACH_OF(tap, w.dim + 1)
        {
            const double *x = under(r, p, tap), *by = r->in[1] + offset_of(w, o, tap);
            for (int64_t k = 0; x && k < ins; k++) sum += x[k] * by[k];
        }
        y[o] = r->attr->rectify && sum < 0 ? 0 : sum;
    }
}

static void pool(const sid2_reference *r, const place *p, double *y)
{
    const int64_t window[] = {r->attr->window[0], r->attr->window[1], r->attr->window[2]};
    int64_t channels = r->in_shape[0].dim[4], tap[3];
    for (int64_t c = 0; c < channels; c++) {
        double sum = 0, largest = -INFINITY, count = 0;
        EACH_OF(tap, window)
        {
            const double *x = under(r, p, tap);
            if (!x) continue;
            sum += x[c];
            count++;
            if (!(x[c] <= largest) && !isnan(largest)) largest = x[c];
        }
        y[c] = r->attr->mean ? sum / count : largest;
    }
}

static void each_window(const sid2_reference *r,
                        void (*rule)(const sid2_reference *, const place *, double *))
{
    sid2_shape y = r->out_shape[0];
    place p;
    for (p.sample = 0; p.sample < y.dim[0]; p.sample++)
        EACH_OF(p.to, y.dim + 1) rule(r, &p, r->out[0] + offset_of(y, p.sample, p.to));
}

void sid2_reference_conv3d(const sid2_reference *r) { each_window(r, convolve); }
void sid2_reference_pool3d(const sid2_reference *r) { each_window(r, pool); }

void sid2_reference_concat(const sid2_reference *r)
{
    sid2_shape y = r->out_shape[0];
    int64_t width = y.dim[y.rank - 1], rows = sid2_shape_count(y) / width, at = 0;
    for (int i = 0; i < 6; i++) {
        if (!r->in[i]) continue;
        int64_t part = r->in_shape[i].dim[r->in_shape[i].rank - 1];
        for (int64_t n = 0; n < rows; n++)
            for (int64_t c = 0; c < part; c++) r->out[0][n * width + at + c] = r->in[i][n * part + c];
        at += part;
    }
}
