#include "inception.h"

#include "params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The network ---- */

typedef struct builder {
    sid2_graph *g;
    sid2_params *params;
    const char *block; /* what stands before the names of its convolutions */
    int width;
} builder;

typedef enum margin { VALID, SAME } margin;

static sid2_attr window_of(int rows, int columns, int stride, margin m)
{
    sid2_attr a = {.window = {1, rows, columns}, .stride = {1, stride, stride}};
    if (m == SAME)
        for (int i = 1; i < 3; i++) a.before[i] = a.after[i] = a.window[i] / 2;
    return a;
}

static sid2_tensor conv(const builder *b, const char *name, sid2_tensor x, int outs, int rows, int columns,
                        int stride, margin m)
{
    char path[2][64];
    if (b->g->error.code || x == SID2_NONE) return SID2_NONE;
    const sid2_shape in = b->g->tensors[x].shape;
    int64_t ins = in.dim[in.rank - 1];
    outs /= b->width;
    snprintf(path[0], sizeof path[0], "%s%s%s.weight", b->block, *b->block ? "." : "", name);
    snprintf(path[1], sizeof path[1], "%s%s%s.bias", b->block, *b->block ? "." : "", name);
    float deviation = sqrtf(2.0f / (float)(ins * rows * columns));
    sid2_tensor w = sid2_graph_param(b->g, b->params, path[0], sid2_shape_of(outs, 1, rows, columns, ins),
                                     true, 0, deviation);
    sid2_tensor bias = sid2_graph_param(b->g, b->params, path[1], sid2_shape_of(outs), false, 0, 0.1f);
    sid2_attr attr = window_of(rows, columns, stride, m);
    for (int i = 0; i < 3; i++) attr.window[i] = 0; /* the weights say it */
    attr.rectify = 1;
    return sid2_conv3d(b->g, x, w, bias, attr);
}

static sid2_tensor largest(const builder *b, sid2_tensor x, int stride, margin m)
{
    return sid2_pool3d(b->g, x, window_of(3, 3, stride, m));
}

static sid2_tensor average(const builder *b, sid2_tensor x)
{
    sid2_attr attr = window_of(3, 3, 1, SAME);
    attr.mean = 1;
    return sid2_pool3d(b->g, x, attr);
}

#define CONCAT(...)                                                                                          \
    sid2_concat(b->g, (sid2_tensor[]){__VA_ARGS__},                                                          \
                (int)(sizeof((sid2_tensor[]){__VA_ARGS__}) / sizeof(sid2_tensor)))

static sid2_tensor stem(const builder *b, sid2_tensor x, sid2_tensor *first)
{
    x = conv(b, "conv", x, 32, 3, 3, 2, VALID);
    x = conv(b, "conv_1", x, 32, 3, 3, 1, VALID);
    x = conv(b, "conv_2", x, 64, 3, 3, 1, SAME);
    x = *first = largest(b, x, 2, VALID);
    x = conv(b, "conv_3", x, 80, 1, 1, 1, VALID);
    x = conv(b, "conv_4", x, 192, 3, 3, 1, VALID);
    return largest(b, x, 2, VALID);
}

static sid2_tensor block_a(const builder *b, sid2_tensor x, int pooled)
{
    sid2_tensor one = conv(b, "conv", x, 64, 1, 1, 1, SAME);
    sid2_tensor five = conv(b, "tower.conv", x, 48, 1, 1, 1, SAME);
    five = conv(b, "tower.conv_1", five, 64, 5, 5, 1, SAME);
    sid2_tensor three = conv(b, "tower_1.conv", x, 64, 1, 1, 1, SAME);
    three = conv(b, "tower_1.conv_1", three, 96, 3, 3, 1, SAME);
    three = conv(b, "tower_1.conv_2", three, 96, 3, 3, 1, SAME);
    return CONCAT(one, five, three, conv(b, "tower_2.conv", average(b, x), pooled, 1, 1, 1, SAME));
}

static sid2_tensor block_b(const builder *b, sid2_tensor x)
{
    sid2_tensor one = conv(b, "conv", x, 384, 3, 3, 2, VALID);
    sid2_tensor two = conv(b, "tower.conv", x, 64, 1, 1, 1, SAME);
    two = conv(b, "tower.conv_1", two, 96, 3, 3, 1, SAME);
    two = conv(b, "tower.conv_2", two, 96, 3, 3, 2, VALID);
    return CONCAT(one, two, largest(b, x, 2, VALID));
}

/* *first: its 1 x 1 convolution. */
static sid2_tensor block_c(const builder *b, sid2_tensor x, int inner, sid2_tensor *first)
{
    *first = conv(b, "conv", x, 192, 1, 1, 1, SAME);
    sid2_tensor two = conv(b, "tower.conv", x, inner, 1, 1, 1, SAME);
    two = conv(b, "tower.conv_1", two, inner, 1, 7, 1, SAME);
    two = conv(b, "tower.conv_2", two, 192, 7, 1, 1, SAME);
    sid2_tensor four = conv(b, "tower_1.conv", x, inner, 1, 1, 1, SAME);
    four = conv(b, "tower_1.conv_1", four, inner, 7, 1, 1, SAME);
    four = conv(b, "tower_1.conv_2", four, inner, 1, 7, 1, SAME);
    four = conv(b, "tower_1.conv_3", four, inner, 7, 1, 1, SAME);
    four = conv(b, "tower_1.conv_4", four, 192, 1, 7, 1, SAME);
    return CONCAT(*first, two, four, conv(b, "tower_2.conv", average(b, x), 192, 1, 1, 1, SAME));
}

static sid2_tensor block_d(const builder *b, sid2_tensor x)
{
    sid2_tensor one = conv(b, "tower.conv", x, 192, 1, 1, 1, SAME);
    one = conv(b, "tower.conv_1", one, 320, 3, 3, 2, VALID);
    sid2_tensor two = conv(b, "tower_1.conv", x, 192, 1, 1, 1, SAME);
    two = conv(b, "tower_1.conv_1", two, 192, 1, 7, 1, SAME);
    two = conv(b, "tower_1.conv_2", two, 192, 7, 1, 1, SAME);
    two = conv(b, "tower_1.conv_3", two, 192, 3, 3, 2, VALID);
    return CONCAT(one, two, largest(b, x, 2, VALID));
}

static sid2_tensor block_e(const builder *b, sid2_tensor x, bool maximum)
{
    sid2_tensor one = conv(b, "conv", x, 320, 1, 1, 1, SAME);
    sid2_tensor two = conv(b, "tower_conv", x, 384, 1, 1, 1, SAME);
    sid2_tensor wide = conv(b, "tower_mixed_conv", two, 384, 1, 3, 1, SAME);
    sid2_tensor high = conv(b, "tower_mixed_conv_1", two, 384, 3, 1, 1, SAME);
    sid2_tensor three = conv(b, "tower_1_conv", x, 448, 1, 1, 1, SAME);
    three = conv(b, "tower_1_conv_1", three, 384, 3, 3, 1, SAME);
    sid2_tensor wider = conv(b, "tower_1_mixed_conv", three, 384, 1, 3, 1, SAME);
    sid2_tensor higher = conv(b, "tower_1_mixed_conv_1", three, 384, 3, 1, 1, SAME);
    sid2_tensor pooled = maximum ? largest(b, x, 1, SAME) : average(b, x);
    return CONCAT(one, wide, high, wider, higher, conv(b, "tower_2_conv", pooled, 192, 1, 1, 1, SAME));
}

sid2_inception sid2_inception_build(sid2_graph *g, sid2_params *params, sid2_tensor x, int width, bool head)
{
    static const int pooled[] = {32, 64, 64}, inner[] = {128, 160, 160, 192};
    char name[16] = "mixed";
    int number = 0;
    const builder b = {g, params, name, width};
    sid2_inception net = {SID2_NONE, SID2_NONE, SID2_NONE, SID2_NONE};
    sid2_tensor first;
#define NEXT_BLOCK() snprintf(name, sizeof name, number ? "mixed_%d" : "mixed", number), number++
    x = stem(&(builder){g, params, "", width}, x, &net.first);
    for (int i = 0; i < 3; i++) NEXT_BLOCK(), x = block_a(&b, x, pooled[i]);
    NEXT_BLOCK(), x = block_b(&b, x);
    for (int i = 0; i < 4; i++) {
        NEXT_BLOCK(), x = block_c(&b, x, inner[i], &first);
        if (i == 2) net.spatial = first;
    }
    NEXT_BLOCK(), x = block_d(&b, x);
    for (int i = 0; i < 2; i++) NEXT_BLOCK(), x = block_e(&b, x, i == 1);
    sid2_attr whole = window_of(8, 8, 1, VALID);
    whole.mean = 1;
    net.features = sid2_pool3d(g, x, whole);
    if (!head || net.features == SID2_NONE) return net;
    sid2_shape matrix = sid2_shape_of(SID2_INCEPTION_CLASSES, SID2_INCEPTION_FEATURES / width);
    net.logits =
        sid2_linear_to(g, SID2_F32, net.features,
                       sid2_graph_param(g, params, "output.weight", matrix, true, 0, 0.02f), SID2_NONE);
    return net;
}

/* ---- Pictures ---- */

/* Where along an extent of `from` the place `to` of 299 lies: after `low`, on the way to `high`, by `part`. */
typedef struct place {
    int64_t low, high;
    float part;
} place;

static place place_of(int64_t from, int64_t to)
{
    float at = (float)to * ((float)from / (float)SID2_INCEPTION_SIDE), low = floorf(at);
    place p = {.low = (int64_t)low, .part = at - low};
    if (p.low > from - 1) p.low = from - 1;
    p.high = p.low + 1 < from ? p.low + 1 : from - 1;
    return p;
}

void sid2_inception_prepare(const uint8_t *pixels, int64_t height, int64_t width, int channels, float *to)
{
    for (int64_t y = 0; y < SID2_INCEPTION_SIDE; y++) {
        place v = place_of(height, y);
        const uint8_t *above = pixels + v.low * width * channels, *below = pixels + v.high * width * channels;
        for (int64_t x = 0; x < SID2_INCEPTION_SIDE; x++) {
            place h = place_of(width, x);
            for (int c = 0; c < 3; c++) {
                int64_t a = h.low * channels + c % channels, b = h.high * channels + c % channels;
                float top = (float)above[a] + ((float)above[b] - (float)above[a]) * h.part;
                float bottom = (float)below[a] + ((float)below[b] - (float)below[a]) * h.part;
                *to++ = (top + (bottom - top) * v.part - 128) / 128;
            }
        }
    }
}

/* ---- Conversion ---- */

/* What the pieces of a convolution are called by those that call it as in the graph of 2015, and by the others. */
enum { WEIGHT, SHIFT, MEAN, VARIANCE, PIECES };
static const char *const pieces[2][PIECES] = {
    {"weight", "beta", "mean", "var"}, {"conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"}};

static const char *const convolutions[][2] = {
#define CONV(name, other) {name, other},
#include "inception.def"
};
enum { CONVOLUTIONS = sizeof convolutions / sizeof *convolutions };

/* The names and the prefix that a file has; it is told by the first convolution. */
static const char *const prefixes[] = {"", "net.layers.", "layers.", "inception.", "model.", "state_dict."};

static bool find_names(const sid2_tensor_source *source, int *kind, const char **prefix)
{
    char name[256];
    for (*kind = 0; *kind < 2; ++*kind)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
            *prefix = prefixes[i];
            snprintf(name, sizeof name, "%s%s.%s", *prefix, convolutions[0][*kind], pieces[*kind][VARIANCE]);
            if (source->has(source->user, name)) return true;
        }
    return false;
}

static const sid2_param *param_of(const sid2_params *params, const char *name, const char *what)
{
    char path[96];
    snprintf(path, sizeof path, "%s.%s", name, what);
    for (int32_t i = 0; i < params->count; i++)
        if (strcmp(params->item[i].name, path) == 0) return &params->item[i];
    return NULL;
}

/* w / sqrt(variance + eps), channels last, and shift - mean / sqrt(variance + eps). */
static void fold(const sid2_param *weight, float *const piece[PIECES], float *w, float *bias)
{
    const int64_t *dim = weight->shape.dim, taps = dim[2] * dim[3], ins = dim[4];
    for (int64_t o = 0; o < dim[0]; o++) {
        double share = 1 / sqrt((double)piece[VARIANCE][o] + 1e-3);
        bias[o] = (float)((double)piece[SHIFT][o] - (double)piece[MEAN][o] * share);
        for (int64_t t = 0; t < taps; t++)
            for (int64_t i = 0; i < ins; i++)
                w[(o * taps + t) * ins + i] =
                    (float)((double)piece[WEIGHT][(o * ins + i) * taps + t] * share);
    }
}

static bool convert_one(const sid2_tensor_source *source, const char *prefix, int kind, int row,
                        const sid2_params *params, float *flat, sid2_error *err)
{
    char name[256];
    float *piece[PIECES] = {NULL};
    const sid2_param *weight = param_of(params, convolutions[row][0], "weight"),
                     *bias = param_of(params, convolutions[row][0], "bias");
    bool ok =
        (weight && bias) || sid2_fail(err, SID2_ERR_INTERNAL, "no convolution %s", convolutions[row][0]);
    for (int i = 0; ok && i < PIECES; i++) {
        snprintf(name, sizeof name, "%s%s.%s", prefix, convolutions[row][kind], pieces[kind][i]);
        piece[i] = source->read(source->user, name,
                                sid2_shape_count(i == WEIGHT ? weight->shape : bias->shape), err);
        ok = piece[i] != NULL;
    }
    if (ok) fold(weight, piece, flat + weight->offset, flat + bias->offset);
    for (int i = 0; i < PIECES; i++) free(piece[i]);
    return ok;
}

/* The classes' matrix, under the name that the file has for it. */
static const char *find_head(const sid2_tensor_source *source, const char *prefix, char name[256])
{
    static const char *const names[] = {"output.weight", "fc.weight"};
    for (int i = 0; i < 2; i++) {
        snprintf(name, 256, "%s%s", prefix, names[i]);
        if (source->has(source->user, name)) return name;
        if (source->has(source->user, names[i])) return names[i];
    }
    return NULL;
}

static sid2_graph *graph_of(bool head, sid2_params **params, sid2_error *err)
{
    sid2_graph *g = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32,
                                        sid2_shape_of(1, 1, SID2_INCEPTION_SIDE, SID2_INCEPTION_SIDE, 3));
    sid2_inception_build(g, *params, x, 1, head);
    if (sid2_graph_finish(g, err)) return g;
    sid2_graph_destroy(g);
    return NULL;
}

bool sid2_inception_convert(const sid2_tensor_source *source, const char *path, const char *const *facts,
                            bool *head, sid2_error *err)
{
    int kind;
    const char *prefix, *head_name;
    char text[256];
    if (!find_names(source, &kind, &prefix))
        return sid2_fail(
            err, SID2_ERR_FORMAT,
            "these are not the weights of FID's Inception: there is neither %s.var nor %s.bn.running_var",
            convolutions[0][0], convolutions[0][1]);
    head_name = find_head(source, prefix, text);
    *head = head_name != NULL;
    sid2_params *params;
    sid2_graph *g = graph_of(*head, &params, err);
    float *flat = g ? calloc((size_t)params->elements, sizeof *flat) : NULL;
    bool ok = g && (flat || sid2_fail(err, SID2_ERR_MEMORY, "no memory for the weights"));
    for (int i = 0; ok && i < CONVOLUTIONS; i++) ok = convert_one(source, prefix, kind, i, params, flat, err);
    if (ok && *head) {
        const sid2_param *matrix = param_of(params, "output", "weight");
        float *values = source->read(source->user, head_name, sid2_shape_count(matrix->shape), err);
        ok = values != NULL;
        if (ok) memcpy(flat + matrix->offset, values, (size_t)sid2_shape_count(matrix->shape) * sizeof *flat);
        free(values);
    }
    ok = ok && sid2_params_save(NULL, 1, path, params, &(sid2_params_part){.prefix = "", .flat = flat}, 1,
                                facts, err);
    free(flat);
    sid2_graph_destroy(g);
    return ok;
}
