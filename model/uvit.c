/* The Residual U-ViT, written with plain builders; core's fuse pass merges what a kernel can do at once. */
#include "uvit.h"

#include <math.h>
#include <stdio.h>

#include "philox.h"

typedef struct net {
    sid2_graph *g;
    const sid2_config *config;
    sid2_uvit_inputs in;
    sid2_uvit *out;
    uint32_t dropouts; /* made so far: each has its own stream */
    float rate;        /* dropout of the current level */
} net;

/* ---- Parameters. `path` is the block ("down.0.1"), `name` the part in it ("conv0"). ---- */

static sid2_tensor param(net *n, const char *path, const char *name, const char *suffix, sid2_shape shape,
                         bool matrix, float mean, float std)
{
    char full[96];
    snprintf(full, sizeof full, "%s.%s%s", path, name, suffix);
    return sid2_graph_param(n->g, n->in.params, full, shape, matrix, mean, std);
}

typedef enum init { FAN_IN, ZERO } init;

/* w of y[..,out] = x[..,in] w^T, or of a k x k convolution. */
static sid2_tensor kernel(net *n, const char *path, const char *name, int64_t out, int64_t k, int64_t in,
                          init how)
{
    sid2_shape shape = k == 1 ? sid2_shape_of(out, in) : sid2_shape_of(out, k, k, in);
    float std = how == ZERO ? 0 : (float)(1 / sqrt((double)(k * k * in)));
    return param(n, path, name, ".weight", shape, true, 0, std);
}

static sid2_tensor vector(net *n, const char *path, const char *name, const char *suffix, int64_t length,
                          float mean)
{
    return param(n, path, name, suffix, sid2_shape_of(length), false, mean, 0);
}

static int64_t channels_of(net *n, sid2_tensor x)
{
    sid2_shape shape = sid2_graph_type(n->g, x).shape;
    return shape.rank > 0 ? shape.dim[shape.rank - 1] : 1;
}

/* ---- Layers ---- */

/* A linear, or a k x k convolution where k > 1, with bias. */
static sid2_tensor project(net *n, sid2_tensor x, const char *path, const char *name, int64_t out, int64_t k,
                           init how)
{
    sid2_tensor w = kernel(n, path, name, out, k, channels_of(n, x), how);
    sid2_tensor bias = vector(n, path, name, ".bias", out, 0);
    return k == 1 ? sid2_linear(n->g, x, w, bias) : sid2_conv2d(n->g, x, w, bias);
}

static sid2_tensor group_norm(net *n, sid2_tensor x, const char *path, const char *name)
{
    int64_t channels = channels_of(n, x), groups = n->config->model_groups;
    if (groups > channels) groups = channels;
    while (channels % groups) groups--;
    sid2_tensor gamma = vector(n, path, name, ".weight", channels, 1);
    sid2_tensor beta = vector(n, path, name, ".bias", channels, 0);
    return sid2_group_norm(n->g, x, gamma, beta, (int)groups, (float)n->config->model_norm_eps);
}

static sid2_tensor rms_norm(net *n, sid2_tensor x, const char *path, const char *name)
{
    sid2_tensor gamma = vector(n, path, name, ".weight", channels_of(n, x), 1);
    return sid2_rms_norm(n->g, x, gamma, (float)n->config->model_norm_eps);
}

static sid2_tensor activation(net *n, sid2_tensor x)
{
    return n->config->model_activation == SID2_ACTIVATION_gelu ? sid2_gelu(n->g, x) : sid2_silu(n->g, x);
}

static sid2_tensor film(net *n, sid2_tensor x, const char *path, const char *name)
{
    return sid2_film(n->g, x, project(n, n->out->emb, path, name, 2 * channels_of(n, x), 1, ZERO));
}

/* The same elements, all tokens of a clip one after the other: [N,h,w,C] as [N/F, F h w, C]. */
static sid2_tensor by_clip(net *n, sid2_tensor x)
{
    sid2_shape shape = sid2_graph_type(n->g, x).shape;
    int64_t frames = n->config->model_frames;
    if (frames == 1 || shape.rank < 0) return x;
    return sid2_reshape(
        n->g, x, sid2_shape_of(shape.dim[0] / frames, frames * shape.dim[1] * shape.dim[2], shape.dim[3]));
}

static sid2_tensor dropout(net *n, sid2_tensor x)
{
    if (n->rate == 0 || n->in.samples == SID2_NONE) return x;
    sid2_shape shape = sid2_graph_type(n->g, x).shape;
    sid2_tensor y = sid2_dropout(n->g, by_clip(n, x), n->in.samples, n->in.seed, n->rate,
                                 (n->in.purpose ? n->in.purpose : SID2_PURPOSE_DROPOUT) + n->dropouts++);
    return sid2_reshape(n->g, y, shape);
}

/* Queries, keys and values from a normalised x, and the projection that starts at zero. A clip's frames attend to each
 * other, all to all. */
static sid2_tensor attention(net *n, sid2_tensor x, const char *path)
{
    const sid2_config *c = n->config;
    int64_t channels = channels_of(n, x), width = c->model_head_dim;
    sid2_tensor qkv = project(n, x, path, "attn.qkv", 3 * channels, 1, FAN_IN);
    sid2_tensor gamma = SID2_NONE, beta = SID2_NONE;
    if (c->model_qk_norm != SID2_QK_none)
        gamma = param(n, path, "attn.qk_norm", ".weight", sid2_shape_of(2, width), false, 1, 0);
    if (c->model_qk_norm == SID2_QK_layer)
        beta = param(n, path, "attn.qk_norm", ".bias", sid2_shape_of(2, width), false, 0, 0);
    sid2_shape shape = sid2_graph_type(n->g, x).shape;
    int32_t grid[3] = {(int32_t)c->model_frames, (int32_t)shape.dim[1], (int32_t)shape.dim[2]};
    sid2_tensor y = sid2_attention(n->g, by_clip(n, qkv), gamma, beta, (int)(channels / width), grid,
                                   c->model_qk_norm == SID2_QK_layer, (float)c->model_norm_eps,
                                   (float)c->model_rope_theta);
    return project(n, sid2_reshape(n->g, y, shape), path, "attn.out", channels, 1, ZERO);
}

/* ---- Blocks ---- */

static sid2_tensor res_block(net *n, sid2_tensor x, const char *path)
{
    int64_t channels = channels_of(n, x);
    sid2_tensor h = activation(n, group_norm(n, x, path, "norm0"));
    h = project(n, h, path, "conv0", channels, 3, FAN_IN);
    h = film(n, group_norm(n, h, path, "norm1"), path, "film");
    h = project(n, dropout(n, activation(n, h)), path, "conv1", channels, 3, ZERO);
    return sid2_add(n->g, x, h);
}

static sid2_tensor transformer_block(net *n, sid2_tensor x, const char *path)
{
    int64_t channels = channels_of(n, x), hidden = channels * n->config->model_mlp_ratio;
    if (n->config->model_parallel) {
        sid2_tensor shared = film(n, rms_norm(n, x, path, "norm"), path, "film");
        sid2_tensor h = activation(n, project(n, shared, path, "mlp.linear0", hidden, 1, FAN_IN));
        h = project(n, dropout(n, h), path, "mlp.linear1", channels, 1, ZERO);
        return sid2_add(n->g, sid2_add(n->g, x, h), attention(n, shared, path));
    }
    sid2_tensor h = project(n, rms_norm(n, x, path, "mlp.norm"), path, "mlp.linear0", hidden, 1, FAN_IN);
    h = film(n, activation(n, h), path, "mlp.film");
    x = sid2_add(n->g, x, project(n, dropout(n, h), path, "mlp.linear1", channels, 1, ZERO));
    return sid2_add(n->g, x, attention(n, rms_norm(n, x, path, "attn.norm"), path));
}

/* Block `j` of a level; the unit of recomputation. */
static sid2_tensor block(net *n, sid2_tensor x, int level, const char *stack, int64_t j)
{
    char path[40];
    snprintf(path, sizeof path, "%s.%d", stack, (int)j);
    n->rate = (float)sid2_config_dropout(n->config, level);
    sid2_graph_begin_segment(n->g);
    bool res = n->config->model_blocks.item[level] == SID2_BLOCK_res;
    x = res ? res_block(n, x, path) : transformer_block(n, x, path);
    sid2_graph_end_segment(n->g);
    return x;
}

/* ---- The network ---- */

static void begin_layer(net *n, const char *name, const char *kind)
{
    sid2_uvit_layer *layer = &n->out->layers[n->out->layer_count++];
    *layer = (sid2_uvit_layer){.first_node = n->g->node_count,
                               .first_param = n->in.params ? n->in.params->count : 0,
                               .output = SID2_NONE};
    snprintf(layer->name, sizeof layer->name, "%s", name);
    snprintf(layer->kind, sizeof layer->kind, "%s", kind);
}

static void begin_level(net *n, const char *name, int level, int64_t blocks)
{
    char kind[24];
    bool res = n->config->model_blocks.item[level] == SID2_BLOCK_res;
    snprintf(kind, sizeof kind, "%s x %d", res ? "Res" : "Transformer", (int)blocks);
    begin_layer(n, name, kind);
}

static sid2_tensor end_layer(net *n, sid2_tensor x)
{
    return n->out->layers[n->out->layer_count - 1].output = x;
}

static void condition(net *n)
{
    const sid2_config *c = n->config;
    begin_layer(n, "cond", "MLP, class table");
    sid2_tensor h = sid2_sinusoid(n->g, n->in.time, (int)c->model_waves, (float)c->model_wave_period);
    h = sid2_silu(n->g, project(n, h, "cond", "linear0", c->model_emb, 1, FAN_IN));
    h = project(n, h, "cond", "linear1", c->model_emb, 1, FAN_IN);
    sid2_tensor table =
        param(n, "cond", "class", ".weight", sid2_shape_of(c->model_classes + 1, c->model_emb), true, 0,
              (float)c->model_class_std);
    n->out->emb = end_layer(n, sid2_add(n->g, h, sid2_embedding(n->g, table, n->in.label)));
}

static sid2_tensor embed(net *n)
{
    const sid2_config *c = n->config;
    char kind[24];
    int patch = (int)c->model_patch;
    snprintf(kind, sizeof kind, patch == 1 ? "conv 3 x 3" : "patches %d x %d", patch, patch);
    begin_layer(n, "embed", kind);
    sid2_tensor z = sid2_patchify(n->g, sid2_cast(n->g, n->in.z, n->g->compute), patch);
    int64_t channels = c->model_channels.item[0];
    int64_t k = patch == 1 ? 3 : 1;
    sid2_tensor w =
        param(n, "embed", "weight", "",
              k == 3 ? sid2_shape_of(channels, 3, 3, c->model_image_channels)
                     : sid2_shape_of(channels, patch * patch * c->model_image_channels),
              true, 0, (float)(1 / sqrt((double)(k * k * patch * patch * c->model_image_channels))));
    sid2_tensor bias = param(n, "embed", "bias", "", sid2_shape_of(channels), false, 0, 0);
    return end_layer(n, k == 3 ? sid2_conv2d(n->g, z, w, bias) : sid2_linear(n->g, z, w, bias));
}

/* The output leaves in f32, whatever the compute type. */
static sid2_tensor head(net *n, sid2_tensor x)
{
    const sid2_config *c = n->config;
    begin_layer(n, "head", "norm, linear");
    sid2_tensor h = activation(n, group_norm(n, x, "head", "norm"));
    int64_t out = c->model_patch * c->model_patch * c->model_image_channels;
    sid2_tensor w = kernel(n, "head", "out", out, 1, channels_of(n, h), ZERO);
    h = sid2_linear_to(n->g, n->g->master, h, w, vector(n, "head", "out", ".bias", out, 0));
    return end_layer(n, sid2_unpatchify(n->g, h, (int)c->model_patch));
}

sid2_tensor sid2_uvit_noise(sid2_graph *g, const sid2_config *c, int64_t clips, sid2_tensor samples,
                            sid2_tensor seed, uint32_t purpose)
{
    sid2_tensor noise = sid2_random_normal(g, samples, seed, sid2_config_clips(c, clips), purpose);
    return sid2_reshape(g, noise, sid2_config_images(c, clips));
}

sid2_uvit sid2_uvit_build(sid2_graph *g, const sid2_config *c, sid2_uvit_inputs in)
{
    sid2_uvit out = {0};
    net n = {.g = g, .config = c, .in = in, .out = &out};
    int last = sid2_config_levels(c) - 1;
    int64_t kernel_size = c->model_updown_kernel;
    sid2_tensor before[SID2_MAX_LEVELS], after[SID2_MAX_LEVELS]; /* h and d: around each Down */
    sid2_tensor kept[SID2_MAX_LEVELS][256];                      /* each block's output, for skip = block */
    char stack[16];

    condition(&n);
    sid2_tensor x = embed(&n);
    for (int i = 0; i < last; i++) {
        int64_t depth = sid2_config_depth(c, i);
        snprintf(stack, sizeof stack, "down.%d", i);
        begin_level(&n, stack, i, depth);
        for (int64_t j = 0; j < depth; j++) x = kept[i][j] = block(&n, x, i, stack, j);
        before[i] = x;
        x = sid2_avg_pool2(g, x);
        x = after[i] =
            end_layer(&n, project(&n, x, stack, "proj", c->model_channels.item[i + 1], kernel_size, FAN_IN));
    }
    begin_level(&n, "mid", last, c->model_mid_depth);
    for (int64_t j = 0; j < c->model_mid_depth; j++) x = block(&n, x, last, "mid", j);
    end_layer(&n, x);
    for (int i = last - 1; i >= 0; i--) {
        int64_t depth = sid2_config_depth(c, i);
        snprintf(stack, sizeof stack, "up.%d", i);
        begin_level(&n, stack, i, depth);
        if (c->model_skip != SID2_SKIP_none) x = sid2_sub(g, x, after[i]);
        x = project(&n, x, stack, "proj", c->model_channels.item[i], kernel_size, FAN_IN);
        x = sid2_upsample2(g, x);
        if (c->model_skip != SID2_SKIP_none) x = sid2_add(g, before[i], x);
        for (int64_t j = 0; j < depth; j++) {
            /* The mirror of block 0 is the level's own skip. */
            if (c->model_skip == SID2_SKIP_block && j > 0) x = sid2_add(g, x, kept[i][depth - 1 - j]);
            x = block(&n, x, i, stack, j);
        }
        end_layer(&n, x);
    }
    out.v = head(&n, x);
    return out;
}
