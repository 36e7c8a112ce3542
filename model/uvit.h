/* The Residual U-ViT as a graph. Formulas, tensor names and shapes: docs/model.md. */
#ifndef SID2_UVIT_H
#define SID2_UVIT_H

#include "config.h"
#include "graph.h"

/* N images of H x W pixels and c channels, H x W = model.image_size. Clips are model.frames = F images each, in order: N
 * counts frames, and only attention, dropout and noise see that F of them belong together. */
typedef struct sid2_uvit_inputs {
    sid2_params *params; /* the set that holds the network's parameters */
    sid2_tensor z;       /* [N,H,W,c] f32 */
    sid2_tensor time;    /* [N] f32: sid2_schedule_position */
    sid2_tensor label;   /* [N] i32; model.classes stands for none; of a clip the same in all frames */
    sid2_tensor samples,
        seed;         /* for dropout: u32 [N/F,2], one for each clip, and [2]; SID2_NONE: no dropout */
    uint32_t purpose; /* of its first mask; 0: SID2_PURPOSE_DROPOUT */
} sid2_uvit_inputs;

/* A level of the network, for tables: the nodes and parameters from here to the next layer. */
typedef struct sid2_uvit_layer {
    char name[24], kind[24];
    int32_t first_node, first_param;
    sid2_tensor output;
} sid2_uvit_layer;

enum { SID2_UVIT_MAX_LAYERS = 2 * SID2_MAX_LEVELS + 2 };

typedef struct sid2_uvit {
    sid2_tensor v;   /* [N,H,W,c] f32 */
    sid2_tensor emb; /* [N,model.emb], the conditioning vector */
    sid2_uvit_layer layers[SID2_UVIT_MAX_LAYERS];
    int layer_count;
} sid2_uvit;

/* Noise for `clips` clips, [clips F,H,W,c] f32: element of the stream = index in the clip. */
sid2_tensor sid2_uvit_noise(sid2_graph *g, const sid2_config *config, int64_t clips, sid2_tensor samples,
                            sid2_tensor seed, uint32_t purpose);

/* Appends the network to a graph. A second call with the same set of parameters shares them. */
sid2_uvit sid2_uvit_build(sid2_graph *g, const sid2_config *config, sid2_uvit_inputs inputs);

#endif
