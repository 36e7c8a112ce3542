#include "inception.h"

#include <stdio.h>
#include <string.h>

/* ---- The network ---- */

static sid2_tensor conv(const sid2_net *b, const char *name, sid2_tensor x, int outs, int rows, int columns,
                        int stride, sid2_margin m)
{
    return sid2_net_conv(b, name, x, outs, (sid2_window){{1, rows, columns}, {1, stride, stride}, m}, true);
}

static sid2_tensor largest(const sid2_net *b, sid2_tensor x, int stride, sid2_margin m)
{
    return sid2_net_largest(b, x, (sid2_window){{1, 3, 3}, {1, stride, stride}, m});
}

static sid2_tensor average(const sid2_net *b, sid2_tensor x)
{
    return sid2_net_mean(b, x, (sid2_window){{1, 3, 3}, {1, 1, 1}, SID2_SAME});
}

static sid2_tensor stem(const sid2_net *b, sid2_tensor x, sid2_tensor *first)
{
    x = conv(b, "conv", x, 32, 3, 3, 2, SID2_VALID);
    x = conv(b, "conv_1", x, 32, 3, 3, 1, SID2_VALID);
    x = conv(b, "conv_2", x, 64, 3, 3, 1, SID2_SAME);
    x = *first = largest(b, x, 2, SID2_VALID);
    x = conv(b, "conv_3", x, 80, 1, 1, 1, SID2_VALID);
    x = conv(b, "conv_4", x, 192, 3, 3, 1, SID2_VALID);
    return largest(b, x, 2, SID2_VALID);
}

static sid2_tensor block_a(const sid2_net *b, sid2_tensor x, int pooled)
{
    sid2_tensor one = conv(b, "conv", x, 64, 1, 1, 1, SID2_SAME);
    sid2_tensor five = conv(b, "tower.conv", x, 48, 1, 1, 1, SID2_SAME);
    five = conv(b, "tower.conv_1", five, 64, 5, 5, 1, SID2_SAME);
    sid2_tensor three = conv(b, "tower_1.conv", x, 64, 1, 1, 1, SID2_SAME);
    three = conv(b, "tower_1.conv_1", three, 96, 3, 3, 1, SID2_SAME);
    three = conv(b, "tower_1.conv_2", three, 96, 3, 3, 1, SID2_SAME);
    return SID2_NET_CONCAT(b, one, five, three,
                           conv(b, "tower_2.conv", average(b, x), pooled, 1, 1, 1, SID2_SAME));
}

static sid2_tensor block_b(const sid2_net *b, sid2_tensor x)
{
    sid2_tensor one = conv(b, "conv", x, 384, 3, 3, 2, SID2_VALID);
    sid2_tensor two = conv(b, "tower.conv", x, 64, 1, 1, 1, SID2_SAME);
    two = conv(b, "tower.conv_1", two, 96, 3, 3, 1, SID2_SAME);
    two = conv(b, "tower.conv_2", two, 96, 3, 3, 2, SID2_VALID);
    return SID2_NET_CONCAT(b, one, two, largest(b, x, 2, SID2_VALID));
}

/* *first: its 1 x 1 convolution. */
static sid2_tensor block_c(const sid2_net *b, sid2_tensor x, int inner, sid2_tensor *first)
{
    *first = conv(b, "conv", x, 192, 1, 1, 1, SID2_SAME);
    sid2_tensor two = conv(b, "tower.conv", x, inner, 1, 1, 1, SID2_SAME);
    two = conv(b, "tower.conv_1", two, inner, 1, 7, 1, SID2_SAME);
    two = conv(b, "tower.conv_2", two, 192, 7, 1, 1, SID2_SAME);
    sid2_tensor four = conv(b, "tower_1.conv", x, inner, 1, 1, 1, SID2_SAME);
    four = conv(b, "tower_1.conv_1", four, inner, 7, 1, 1, SID2_SAME);
    four = conv(b, "tower_1.conv_2", four, inner, 1, 7, 1, SID2_SAME);
    four = conv(b, "tower_1.conv_3", four, inner, 7, 1, 1, SID2_SAME);
    four = conv(b, "tower_1.conv_4", four, 192, 1, 7, 1, SID2_SAME);
    return SID2_NET_CONCAT(b, *first, two, four,
                           conv(b, "tower_2.conv", average(b, x), 192, 1, 1, 1, SID2_SAME));
}

static sid2_tensor block_d(const sid2_net *b, sid2_tensor x)
{
    sid2_tensor one = conv(b, "tower.conv", x, 192, 1, 1, 1, SID2_SAME);
    one = conv(b, "tower.conv_1", one, 320, 3, 3, 2, SID2_VALID);
    sid2_tensor two = conv(b, "tower_1.conv", x, 192, 1, 1, 1, SID2_SAME);
    two = conv(b, "tower_1.conv_1", two, 192, 1, 7, 1, SID2_SAME);
    two = conv(b, "tower_1.conv_2", two, 192, 7, 1, 1, SID2_SAME);
    two = conv(b, "tower_1.conv_3", two, 192, 3, 3, 2, SID2_VALID);
    return SID2_NET_CONCAT(b, one, two, largest(b, x, 2, SID2_VALID));
}

static sid2_tensor block_e(const sid2_net *b, sid2_tensor x, bool maximum)
{
    sid2_tensor one = conv(b, "conv", x, 320, 1, 1, 1, SID2_SAME);
    sid2_tensor two = conv(b, "tower_conv", x, 384, 1, 1, 1, SID2_SAME);
    sid2_tensor wide = conv(b, "tower_mixed_conv", two, 384, 1, 3, 1, SID2_SAME);
    sid2_tensor high = conv(b, "tower_mixed_conv_1", two, 384, 3, 1, 1, SID2_SAME);
    sid2_tensor three = conv(b, "tower_1_conv", x, 448, 1, 1, 1, SID2_SAME);
    three = conv(b, "tower_1_conv_1", three, 384, 3, 3, 1, SID2_SAME);
    sid2_tensor wider = conv(b, "tower_1_mixed_conv", three, 384, 1, 3, 1, SID2_SAME);
    sid2_tensor higher = conv(b, "tower_1_mixed_conv_1", three, 384, 3, 1, 1, SID2_SAME);
    sid2_tensor pooled = maximum ? largest(b, x, 1, SID2_SAME) : average(b, x);
    return SID2_NET_CONCAT(b, one, wide, high, wider, higher,
                           conv(b, "tower_2_conv", pooled, 192, 1, 1, 1, SID2_SAME));
}

sid2_inception sid2_inception_build(sid2_graph *g, sid2_params *params, sid2_tensor x, int width, bool head)
{
    static const int pooled[] = {32, 64, 64}, inner[] = {128, 160, 160, 192};
    char name[16] = "mixed";
    int number = 0;
    const sid2_net b = {g, params, name, width};
    sid2_inception net = {SID2_NONE, SID2_NONE, SID2_NONE, SID2_NONE};
    sid2_tensor first;
#define NEXT_BLOCK() snprintf(name, sizeof name, number ? "mixed_%d" : "mixed", number), number++
    x = stem(&(sid2_net){g, params, "", width}, x, &net.first);
    for (int i = 0; i < 3; i++) NEXT_BLOCK(), x = block_a(&b, x, pooled[i]);
    NEXT_BLOCK(), x = block_b(&b, x);
    for (int i = 0; i < 4; i++) {
        NEXT_BLOCK(), x = block_c(&b, x, inner[i], &first);
        if (i == 2) net.spatial = first;
    }
    NEXT_BLOCK(), x = block_d(&b, x);
    for (int i = 0; i < 2; i++) NEXT_BLOCK(), x = block_e(&b, x, i == 1);
    net.features = sid2_net_mean(&b, x, (sid2_window){{1, 8, 8}, {1, 1, 1}, SID2_VALID});
    if (!head || net.features == SID2_NONE) return net;
    sid2_shape matrix = sid2_shape_of(SID2_INCEPTION_CLASSES, SID2_INCEPTION_FEATURES / width);
    net.logits =
        sid2_linear_to(g, SID2_F32, net.features,
                       sid2_graph_param(g, params, "output.weight", matrix, true, 0, 0.02f), SID2_NONE);
    return net;
}

/* ---- Pictures ---- */

void sid2_inception_prepare(const uint8_t *pixels, int64_t height, int64_t width, int channels, float *to)
{
    sid2_net_picture(pixels, height, width, channels, SID2_INCEPTION_SIDE, 1.0f / 128, to);
}

/* ---- Conversion ---- */

/* What the pieces of a convolution are called by those that call it as in the graph of 2015, and by the others. */
static const char *const endings[2][SID2_PIECES] = {
    {"weight", "beta", "mean", "var"}, {"conv.weight", "bn.bias", "bn.running_mean", "bn.running_var"}};

static const char *const convolutions[][2] = {
#define CONV(name, other) {name, other},
#include "inception.def"
};
enum { CONVOLUTIONS = sizeof convolutions / sizeof *convolutions };

/* What a file calls them: the kind of its names, what stands before them, and how the classes' matrix is called. */
typedef struct naming {
    int kind;
    const char *prefix;
    char head[256]; /* "": it has none */
} naming;

/* Told by the first convolution. */
static bool find_names(const sid2_tensor_source *source, naming *n)
{
    static const char *const prefixes[] = {"",           "net.layers.", "layers.",
                                           "inception.", "model.",      "state_dict."};
    char name[256];
    for (n->kind = 0; n->kind < 2; n->kind++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
            n->prefix = prefixes[i];
            snprintf(name, sizeof name, "%s%s.%s", n->prefix, convolutions[0][n->kind],
                     endings[n->kind][SID2_PIECE_VARIANCE]);
            if (source->has(source->user, name)) return true;
        }
    return false;
}

static void find_head(const sid2_tensor_source *source, naming *n)
{
    static const char *const names[] = {"output.weight", "fc.weight"};
    for (int i = 0; i < 4; i++) {
        snprintf(n->head, sizeof n->head, "%s%s", i % 2 ? "" : n->prefix, names[i / 2]);
        if (source->has(source->user, n->head)) return;
    }
    n->head[0] = 0;
}

static void pieces_of(void *user, const char *name, sid2_pieces *pieces)
{
    const naming *n = user;
    for (int row = 0; row < CONVOLUTIONS; row++)
        for (int i = 0; strcmp(convolutions[row][0], name) == 0 && i < SID2_PIECES; i++)
            snprintf(pieces->name[i], sizeof pieces->name[i], "%s%s.%s", n->prefix,
                     convolutions[row][n->kind], endings[n->kind][i]);
    if (strcmp(name, "output") == 0)
        snprintf(pieces->name[SID2_PIECE_WEIGHT], sizeof pieces->name[0], "%s", n->head);
}

bool sid2_inception_convert(const sid2_tensor_source *source, const char *path, const char *const *facts,
                            bool *head, sid2_error *err)
{
    naming n;
    if (!find_names(source, &n))
        return sid2_fail(
            err, SID2_ERR_FORMAT,
            "these are not the weights of FID's Inception: there is neither %s.var nor %s.bn.running_var",
            convolutions[0][0], convolutions[0][1]);
    find_head(source, &n);
    *head = n.head[0] != 0;
    sid2_graph *g = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32,
                                        sid2_shape_of(1, 1, SID2_INCEPTION_SIDE, SID2_INCEPTION_SIDE, 3));
    sid2_inception_build(g, params, x, 1, *head);
    bool ok = sid2_graph_finish(g, err) && sid2_net_convert(source, path, params, pieces_of, &n, facts, err);
    sid2_graph_destroy(g);
    return ok;
}
