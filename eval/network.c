#include "network.h"

#include "params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Building ---- */

static sid2_attr attr_of(const sid2_window *w, sid2_shape in)
{
    sid2_attr a = {0};
    for (int i = 0; i < 3; i++) {
        int64_t from = in.dim[i + 1], to = (from + w->stride[i] - 1) / w->stride[i];
        int64_t around = w->margin == SID2_SAME ? (to - 1) * w->stride[i] + w->size[i] - from : 0;
        if (around < 0) around = 0;
        a.window[i] = w->size[i];
        a.stride[i] = w->stride[i];
        a.before[i] = (int32_t)(around / 2);
        a.after[i] = (int32_t)(around - around / 2);
    }
    return a;
}

sid2_tensor sid2_net_conv(const sid2_net *net, const char *name, sid2_tensor x, int outs, sid2_window window,
                          bool rectify)
{
    char path[2][96];
    if (net->g->error.code || x == SID2_NONE) return SID2_NONE;
    const sid2_shape in = net->g->tensors[x].shape;
    const int32_t *size = window.size;
    const int64_t ins = in.dim[in.rank - 1];
    outs /= net->width;
    snprintf(path[0], sizeof path[0], "%s%s%s.weight", net->block, *net->block ? "." : "", name);
    snprintf(path[1], sizeof path[1], "%s%s%s.bias", net->block, *net->block ? "." : "", name);
    float deviation = sqrtf(2.0f / (float)(ins * size[0] * size[1] * size[2]));
    sid2_tensor w = sid2_graph_param(net->g, net->params, path[0],
                                     sid2_shape_of(outs, size[0], size[1], size[2], ins), true, 0, deviation);
    sid2_tensor bias = sid2_graph_param(net->g, net->params, path[1], sid2_shape_of(outs), false, 0, 0.1f);
    sid2_attr attr = attr_of(&window, in);
    for (int i = 0; i < 3; i++) attr.window[i] = 0; /* the weights say it */
    attr.rectify = rectify;
    return sid2_conv3d(net->g, x, w, bias, attr);
}

static sid2_tensor pool(const sid2_net *net, sid2_tensor x, const sid2_window *window, bool mean)
{
    if (net->g->error.code || x == SID2_NONE) return SID2_NONE;
    sid2_attr attr = attr_of(window, net->g->tensors[x].shape);
    attr.mean = mean;
    return sid2_pool3d(net->g, x, attr);
}

sid2_tensor sid2_net_largest(const sid2_net *net, sid2_tensor x, sid2_window window)
{
    return pool(net, x, &window, false);
}

sid2_tensor sid2_net_mean(const sid2_net *net, sid2_tensor x, sid2_window window)
{
    return pool(net, x, &window, true);
}

/* ---- Pictures ---- */

/* Where along an extent of `from` the place `to` of `side` lies: after `low`, on the way to `high`, by `part`. */
typedef struct place {
    int64_t low, high;
    float part;
} place;

static place place_of(int64_t from, int64_t to, int side)
{
    float at = (float)to * ((float)from / (float)side), low = floorf(at);
    place p = {.low = (int64_t)low, .part = at - low};
    if (p.low > from - 1) p.low = from - 1;
    p.high = p.low + 1 < from ? p.low + 1 : from - 1;
    return p;
}

void sid2_net_picture(const uint8_t *pixels, int64_t height, int64_t width, int channels, int side,
                      float scale, float *to)
{
    for (int64_t y = 0; y < side; y++) {
        place v = place_of(height, y, side);
        const uint8_t *above = pixels + v.low * width * channels, *below = pixels + v.high * width * channels;
        for (int64_t x = 0; x < side; x++) {
            place h = place_of(width, x, side);
            for (int c = 0; c < 3; c++) {
                int64_t a = h.low * channels + c % channels, b = h.high * channels + c % channels;
                float top = (float)above[a] + ((float)above[b] - (float)above[a]) * h.part;
                float bottom = (float)below[a] + ((float)below[b] - (float)below[a]) * h.part;
                *to++ = (top + (bottom - top) * v.part) * scale - 1;
            }
        }
    }
}

/* ---- Conversion ---- */

static const sid2_param *param_of(const sid2_params *params, const char *name, int length, const char *what)
{
    for (int32_t i = 0; i < params->count; i++) {
        const char *other = params->item[i].name;
        if (strncmp(other, name, (size_t)length) == 0 && strcmp(other + length, what) == 0)
            return &params->item[i];
    }
    return NULL;
}

/* w / sqrt(variance + eps), channels last within each output, and shift - mean / sqrt(variance + eps). */
static void fold(const sid2_param *weight, bool channels_last, float *const piece[SID2_PIECES], float *w,
                 float *bias)
{
    const sid2_shape *shape = &weight->shape;
    const int64_t outs = shape->dim[0], ins = shape->dim[shape->rank - 1],
                  taps = sid2_shape_count(*shape) / outs / ins;
    const bool has_norm = piece[SID2_PIECE_MEAN] && piece[SID2_PIECE_VARIANCE];
    for (int64_t o = 0; o < outs; o++) {
        double share = has_norm ? 1 / sqrt((double)piece[SID2_PIECE_VARIANCE][o] + 1e-3) : 1;
        double mean = has_norm ? (double)piece[SID2_PIECE_MEAN][o] : 0;
        if (bias) bias[o] = (float)((double)piece[SID2_PIECE_SHIFT][o] - mean * share);
        for (int64_t t = 0; t < taps; t++)
            for (int64_t i = 0; i < ins; i++) {
                int64_t from = channels_last ? (t * ins + i) * outs + o : (o * ins + i) * taps + t;
                w[(o * taps + t) * ins + i] = (float)((double)piece[SID2_PIECE_WEIGHT][from] * share);
            }
    }
}

static bool convert_one(const sid2_tensor_source *source, const sid2_pieces *pieces, const sid2_param *weight,
                        const sid2_param *bias, float *flat, sid2_error *err)
{
    float *piece[SID2_PIECES] = {NULL};
    bool ok = true;
    for (int i = 0; ok && i < SID2_PIECES; i++) {
        if (!pieces->name[i][0]) continue;
        int64_t count = i == SID2_PIECE_WEIGHT ? sid2_shape_count(weight->shape) : weight->shape.dim[0];
        ok = (piece[i] = source->read(source->user, pieces->name[i], count, err)) != NULL;
    }
    if (ok)
        fold(weight, pieces->channels_last, piece, flat + weight->offset, bias ? flat + bias->offset : NULL);
    for (int i = 0; i < SID2_PIECES; i++) free(piece[i]);
    return ok;
}

bool sid2_net_convert(const sid2_tensor_source *source, const char *path, const sid2_params *params,
                      sid2_pieces_of pieces_of, void *user, const char *const *facts, sid2_error *err)
{
    float *flat = calloc((size_t)params->elements, sizeof *flat);
    bool ok = flat || sid2_fail(err, SID2_ERR_MEMORY, "no memory for the weights");
    for (int32_t i = 0; ok && i < params->count; i++) {
        const sid2_param *weight = &params->item[i];
        const char *end = strstr(weight->name, ".weight");
        if (!end) continue;
        char name[96];
        sid2_pieces pieces = {0};
        int length = (int)(end - weight->name);
        snprintf(name, sizeof name, "%.*s", length, weight->name);
        pieces_of(user, name, &pieces);
        ok = convert_one(source, &pieces, weight, param_of(params, name, length, ".bias"), flat, err);
    }
    ok = ok && sid2_params_save(NULL, 1, path, params, &(sid2_params_part){.prefix = "", .flat = flat}, 1,
                                facts, err);
    free(flat);
    return ok;
}
