/* What the networks that judge are made of: windows over frames, rows and columns as TensorFlow has them, by the names of
 * a file; how pictures get their size; and how other programs' files become such as sid2 reads. */
#ifndef SID2_NETWORK_H
#define SID2_NETWORK_H

#include "graph.h"

/* ---- Building ---- */

typedef struct sid2_net {
    sid2_graph *g;
    sid2_params *params;
    const char
        *block; /* what stands before the names of its convolutions, with a point between; "": nothing */
    int width;  /* 1; tests divide all channels by it */
} sid2_net;

/* VALID: windows that lie inside alone. SAME: as many as steps fit, with zeros around, the odd one at the end; pools see
 * what is inside alone. */
typedef enum sid2_margin { SID2_VALID, SID2_SAME } sid2_margin;
typedef struct sid2_window {
    int32_t size[3], stride[3]; /* frames, rows, columns */
    sid2_margin margin;
} sid2_window;

/* x[N,F,H,W,C]. With parameters NAME.weight [outs / width, size.., C] and NAME.bias, of random values at first; a batch
 * norm is folded into them. rectify: max(y, 0). */
sid2_tensor sid2_net_conv(const sid2_net *net, const char *name, sid2_tensor x, int outs, sid2_window window,
                          bool rectify);
sid2_tensor sid2_net_largest(const sid2_net *net, sid2_tensor x, sid2_window window);
sid2_tensor sid2_net_mean(const sid2_net *net, sid2_tensor x, sid2_window window);

#define SID2_NET_CONCAT(net, ...)                                                                            \
    sid2_concat((net)->g, (sid2_tensor[]){__VA_ARGS__},                                                      \
                (int)(sizeof((sid2_tensor[]){__VA_ARGS__}) / sizeof(sid2_tensor)))

/* A picture u8 [height,width,channels], 1 or 3 channels, to [side,side,3], bilinearly as TensorFlow 1 did it: no half
 * pixel, no filter, no rounding. Values are v * scale - 1. */
void sid2_net_picture(const uint8_t *pixels, int64_t height, int64_t width, int channels, int side,
                      float scale, float *to);

/* ---- Conversion ---- */

/* Tensors of another program's file, by name. */
typedef struct sid2_tensor_source {
    void *user;
    bool (*has)(void *user, const char *name);
    /* As f32, from malloc; FORMAT where it has another number of elements. */
    float *(*read)(void *user, const char *name, int64_t count, sid2_error *err);
} sid2_tensor_source;

/* What a convolution's pieces are called there; "" where there is none. A batch norm (eps 1e-3, no gamma) has a mean and a
 * variance, and its shift is its bias. */
enum { SID2_PIECE_WEIGHT, SID2_PIECE_SHIFT, SID2_PIECE_MEAN, SID2_PIECE_VARIANCE, SID2_PIECES };
typedef struct sid2_pieces {
    char name[SID2_PIECES][256];
    bool channels_last; /* [size.., in, out]; else [out, in, size..] */
} sid2_pieces;
/* Of the convolution or matrix that is called `name` here. */
typedef void (*sid2_pieces_of)(void *user, const char *name, sid2_pieces *pieces);

/* Makes the file of these parameters, with batch norms folded into weights and biases. `facts`: key, value, .., NULL, to be
 * kept in it. */
bool sid2_net_convert(const sid2_tensor_source *source, const char *path, const sid2_params *params,
                      sid2_pieces_of pieces_of, void *user, const char *const *facts, sid2_error *err);

#endif
