#include "i3d.h"

#include <stdio.h>
#include <string.h>

/* ---- The network ---- */

static sid2_window cube(int size, int stride)
{
    return (sid2_window){{size, size, size}, {stride, stride, stride}, SID2_SAME};
}

static sid2_tensor conv(const sid2_net *b, const char *name, sid2_tensor x, int outs, sid2_window window)
{
    return sid2_net_conv(b, name, x, outs, window, true);
}

/* Within frames. */
static sid2_tensor halve(const sid2_net *b, sid2_tensor x)
{
    return sid2_net_largest(b, x, (sid2_window){{1, 3, 3}, {1, 2, 2}, SID2_SAME});
}

/* outs: of its six convolutions, in the order of their names. */
static sid2_tensor block(const sid2_net *b, sid2_tensor x, const int outs[6])
{
    sid2_tensor zero = conv(b, "Branch_0/Conv3d_0a_1x1", x, outs[0], cube(1, 1));
    sid2_tensor one = conv(b, "Branch_1/Conv3d_0a_1x1", x, outs[1], cube(1, 1));
    one = conv(b, "Branch_1/Conv3d_0b_3x3", one, outs[2], cube(3, 1));
    sid2_tensor two = conv(b, "Branch_2/Conv3d_0a_1x1", x, outs[3], cube(1, 1));
    two = conv(b, "Branch_2/Conv3d_0b_3x3", two, outs[4], cube(3, 1));
    sid2_tensor pooled = sid2_net_largest(b, x, cube(3, 1));
    return SID2_NET_CONCAT(b, zero, one, two, conv(b, "Branch_3/Conv3d_0b_1x1", pooled, outs[5], cube(1, 1)));
}

static const struct {
    const char *name;
    int outs[6], halved; /* before it: 3: by a pool of 3, 2: of 2, over frames too */
} blocks[] = {
    {"Mixed_3b", {64, 96, 128, 16, 32, 32}, 0},     {"Mixed_3c", {128, 128, 192, 32, 96, 64}, 0},
    {"Mixed_4b", {192, 96, 208, 16, 48, 64}, 3},    {"Mixed_4c", {160, 112, 224, 24, 64, 64}, 0},
    {"Mixed_4d", {128, 128, 256, 24, 64, 64}, 0},   {"Mixed_4e", {112, 144, 288, 32, 64, 64}, 0},
    {"Mixed_4f", {256, 160, 320, 32, 128, 128}, 0}, {"Mixed_5b", {256, 160, 320, 32, 128, 128}, 2},
    {"Mixed_5c", {384, 192, 384, 48, 128, 128}, 0},
};

sid2_tensor sid2_i3d_build(sid2_graph *g, sid2_params *params, sid2_tensor x, int width)
{
    const sid2_net b = {g, params, "", width};
    x = halve(&b, conv(&b, "Conv3d_1a_7x7", x, 64, cube(7, 2)));
    x = conv(&b, "Conv3d_2b_1x1", x, 64, cube(1, 1));
    x = halve(&b, conv(&b, "Conv3d_2c_3x3", x, 192, cube(3, 1)));
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        if (blocks[i].halved) x = sid2_net_largest(&b, x, cube(blocks[i].halved, 2));
        x = block(&(sid2_net){g, params, blocks[i].name, width}, x, blocks[i].outs);
    }
    x = sid2_net_mean(&b, x, (sid2_window){{2, 7, 7}, {1, 1, 1}, SID2_VALID});
    x = sid2_net_conv(&b, "Logits/Conv3d_0c_1x1", x, SID2_I3D_FEATURES, cube(1, 1), false);
    if (g->error.code || x == SID2_NONE) return SID2_NONE;
    const int32_t frames = (int32_t)g->tensors[x].shape.dim[1];
    return sid2_net_mean(&b, x, (sid2_window){{frames, 1, 1}, {1, 1, 1}, SID2_VALID});
}

void sid2_i3d_prepare(const uint8_t *pixels, int64_t height, int64_t width, int channels, float *to)
{
    sid2_net_picture(pixels, height, width, channels, SID2_I3D_SIDE, 2.0f / 255, to);
}

/* ---- Conversion ---- */

static void pieces_of(void *user, const char *name, sid2_pieces *pieces)
{
    (void)user;
    const bool is_last = strncmp(name, "Logits/", 7) == 0; /* a bias, and no norm */
    pieces->channels_last = true;
    snprintf(pieces->name[SID2_PIECE_WEIGHT], sizeof pieces->name[0], "params.%s.Conv_0.kernel", name);
    snprintf(pieces->name[SID2_PIECE_SHIFT], sizeof pieces->name[0],
             is_last ? "params.%s.Conv_0.bias" : "params.%s.BatchNorm_0.bias", name);
    if (is_last) return;
    snprintf(pieces->name[SID2_PIECE_MEAN], sizeof pieces->name[0], "batch_stats.%s.BatchNorm_0.mean", name);
    snprintf(pieces->name[SID2_PIECE_VARIANCE], sizeof pieces->name[0], "batch_stats.%s.BatchNorm_0.var",
             name);
}

bool sid2_i3d_convert(const sid2_tensor_source *source, const char *path, const char *const *facts,
                      sid2_error *err)
{
    static const char first[] = "params.Conv3d_1a_7x7.Conv_0.kernel";
    if (!source->has(source->user, first))
        return sid2_fail(err, SID2_ERR_FORMAT, "these are not the weights of FVD's I3D: there is no %s",
                         first);
    sid2_graph *g = sid2_graph_create(SID2_F32);
    if (!g) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_params *params = sid2_graph_params(g, "", false);
    sid2_tensor x = sid2_graph_external(
        g, "x", SID2_F32, sid2_shape_of(1, SID2_I3D_LEAST_FRAMES, SID2_I3D_SIDE, SID2_I3D_SIDE, 3));
    sid2_i3d_build(g, params, x, 1);
    bool ok =
        sid2_graph_finish(g, err) && sid2_net_convert(source, path, params, pieces_of, NULL, facts, err);
    sid2_graph_destroy(g);
    return ok;
}
