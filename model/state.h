/* The state of a network in training, on a device: weights and, where it is trained, gradients, Adam's two moments
 * and running averages of the weights.
 *
 * All are flat and laid out alike. Buffers are called after the set of parameters: "weights", "m", "ema"; of the
 * set "teacher", "teacher.weights".
 *
 * Of several ranks each has all gradients and all weights as the network reads them, but of moments and averages only its
 * own part (S. Rajbhandari et al., 2019, "ZeRO", stage 1): it updates that part of the weights and spreads it. Where the
 * network reads 16 bits, "weights" are masters in f32, of which each has its part alone too. The flat buffers are cut
 * into buckets, and a rank's part is one of each, so that a bucket can be summed as soon as its gradients are whole. */
#ifndef SID2_STATE_H
#define SID2_STATE_H

#include "config.h"
#include "digest.h"
#include "group.h"
#include "params.h"

/* An average: at each update, average <- decay average + (1 - decay) weights. */
typedef struct sid2_average sid2_average;
struct sid2_average {
    const char *name; /* of its buffer, and of its file */
    /* 0 to 1, at update number `update`, the first being 1. */
    double (*decay)(const sid2_average *average, uint64_t update);
    double rate;
    bool rampup;
};

/* rate; with rampup at first less, (1 + update) / (10 + update), so that short runs forget their start. */
double sid2_exponential_decay(const sid2_average *average, uint64_t update);

enum { SID2_MAX_AVERAGES = 4 };

/* What is to be held of a network. */
typedef struct sid2_state_rule {
    const char *name; /* of its set of parameters: "" of the only network */
    bool trained;
    sid2_average averages[SID2_MAX_AVERAGES];
    int average_count;
} sid2_state_rule;

/* A set's gradients leave in buckets while the backward pass makes the others, the tail first. */
enum { SID2_BUCKETS = 4 };
sid2_span sid2_state_bucket(int64_t elements, int bucket, int buckets);

enum { SID2_MAX_KEPT = SID2_MAX_AVERAGES + 3 };

/* An array in host memory, all elements. */
typedef struct sid2_kept {
    const char *what;
    float *flat;
} sid2_kept;

typedef struct sid2_state {
    sid2_state_rule rule;
    sid2_buffers *buffers; /* borrowed, as the graph and the group are */
    sid2_group *group;
    sid2_span bucket[SID2_BUCKETS], own[SID2_BUCKETS]; /* own: this rank's part of each */
    int buckets;
    bool begun[SID2_BUCKETS];  /* its sum over the ranks is under way */
    bool stale;                /* of the weights only this rank's part is as the last update made it; */
    bool coming[SID2_BUCKETS]; /* or the others' is under way, a bucket at a time */
    int64_t owned;             /* elements */
    const sid2_graph *graph;   /* one that has the network, */
    const sid2_params *params; /* and its layout there */
    bool masters;              /* the network reads other weights than "weights" */
    sid2_graph *update_graph;  /* NULL where frozen */
    sid2_program *update;
    uint64_t updates;              /* done; one that the norm forbade does not count */
    sid2_kept kept[SID2_MAX_KEPT]; /* of a state without a device, which is only saved (snapshot.h) */
    int kept_count;
    bool torn; /* a load failed half-way: neither the old numbers nor the new */
} sid2_state;

/* Elements of a rank's part, at most. */
int64_t sid2_state_part(int64_t elements, int ranks);
/* Bytes on a device beside what graphs have as externals, weights as networks read them and gradients, for a part of
 * so many elements; `masters`: those weights are of 16 bits. */
size_t sid2_state_extra(const sid2_state_rule *rule, bool masters, int64_t elements);
/* Bytes of host memory for all arrays of its files, and two more to write them from. */
size_t sid2_state_snapshot(const sid2_state_rule *rule, int64_t elements);
/* Makes the graph of the update. */
bool sid2_state_open(sid2_state *state, const sid2_state_rule *rule, sid2_buffers *buffers, sid2_group *group,
                     const sid2_graph *graph, sid2_error *err);
/* Makes the update's program, and with it every buffer of the state that no other program has made; all zero. */
bool sid2_state_compile(sid2_state *state, sid2_arena *arena, sid2_error *err);
void sid2_state_close(sid2_state *state);

/* The name of one of its buffers: `what` is "weights", "grads", "m", "v" or an average. Returns `name`. */
const char *sid2_state_buffer(const sid2_state *state, const char *what, char name[96]);
/* One of its flat arrays, all elements: of moments, averages and masters this rank's part is taken, or filled in. */
bool sid2_state_upload(sid2_state *state, const char *what, const float *flat, sid2_error *err);
bool sid2_state_download(const sid2_state *state, const char *what, float *flat, sid2_error *err);
/* The same, filled in by all ranks, who call it together. */
bool sid2_state_gather(const sid2_state *state, const char *what, float *flat, sid2_error *err);
bool sid2_state_zero(sid2_state *state, const char *what, sid2_error *err);
/* Adds to a digest what the network reads, which all ranks have. */
bool sid2_state_digest(const sid2_state *state, sid2_digest *stream, sid2_error *err);
/* The parameter whose `what` holds a value that is not finite, the first of them on any rank, all of which call it;
 * NULL: none, or not to be had. */
const sid2_param *sid2_state_broken(const sid2_state *state, const char *what);
/* Weights and averages from one array. */
bool sid2_state_set(sid2_state *state, const float *weights, sid2_error *err);
/* Gradients and moments to zero, as they are at first; no updates done. */
bool sid2_state_reset(sid2_state *state, sid2_error *err);

/* ---- Files ---- All ranks call these together, and all have the same answer.
 * A state is an average a file, "ema.safetensors", then "weights.safetensors" and "optimizer.safetensors" with
 * both moments; of the set "teacher", "teacher.weights.safetensors". */
enum { SID2_MAX_STATE_FILES = SID2_MAX_AVERAGES + 2 };

typedef struct sid2_state_file {
    char name[128];
    const char *array[2], *prefix[2]; /* what it holds, and what goes before the parameters' names */
    int arrays;
} sid2_state_file;

int sid2_state_files(const sid2_state_rule *rule, sid2_state_file files[SID2_MAX_STATE_FILES]);
/* `facts` (or NULL): what goes with the tensors, and must agree when they are loaded; see params.h. What is not
 * finite is not saved. */
bool sid2_state_save(const sid2_state *state, const char *directory, const char *const *facts, int writers,
                     sid2_error *err); /* writers: ranks that write, the first so many */
/* Whether sid2_state_load would do. */
bool sid2_state_check(const sid2_state *state, const char *directory, const char *const *facts,
                      sid2_error *err);
/* A damaged file leaves the state as it was. Afterwards the updates are counted from 0. */
bool sid2_state_load(sid2_state *state, const char *directory, const char *const *facts, sid2_error *err);
/* Weights and averages from one file, everything else as at first; what the file lacks, or has in another shape, and
 * `starts_fresh` allows, comes from the seed. */
bool sid2_state_warm_start(sid2_state *state, const char *path, uint64_t seed,
                           bool (*starts_fresh)(const char *name), sid2_error *err);

/* ---- The update ---- */
/* Marks where in a graph with the network a bucket of its weights is first read and, if sums begin `early`, one of its
 * gradients is whole. */
void sid2_state_stops(const sid2_state *state, sid2_graph *graph, bool early);
/* The bucket of gradients that is whole at a stop, or of weights that is read from there on; -1: another stop. */
int sid2_state_bucket_of(const char *stop);
int sid2_state_piece_of(const char *stop);
/* The gradients of all ranks, summed into the part of each; with `low` in bf16, see sid2_group_sum. A bucket's sum can begin
 * while the device computes others; sid2_state_sum begins those that are left, and what follows waits for all. */
bool sid2_state_sum_bucket(sid2_state *state, int bucket, bool low, sid2_error *err);
bool sid2_state_sum(sid2_state *state, bool low, sid2_error *err);
/* One update from the gradients, which are zero then. Waits for the device; *norm: of the gradients. Where that is
 * not finite, nothing has changed, gradients included. Where the group queues, each rank has its part of the new weights
 * then, until these are fetched. */
bool sid2_state_update(sid2_state *state, const sid2_config *config, double learning_rate, float *norm,
                       sid2_error *err);
/* All ranks together, before weights are read. They come bucket by bucket; what follows an arrival waits for that one. */
bool sid2_state_fetch(sid2_state *state, sid2_error *err);
bool sid2_state_arrive(sid2_state *state, int bucket, sid2_error *err);
bool sid2_state_make_whole(sid2_state *state, sid2_error *err); /* both, of all */
/* In place of an update that changed nothing: its gradients are dropped, and it counts as done. */
bool sid2_state_skip(sid2_state *state, sid2_error *err);

#endif
