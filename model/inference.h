/* Inside model/: a network that is asked and not trained, on a device with all that one batch of images needs. What
 * samplers and evaluators share. */
#ifndef SID2_INFERENCE_H
#define SID2_INFERENCE_H

#include <sid2/train.h>

#include "buffers.h"
#include "sampling.h"
#include "schedule.h"
#include "team.h"

/* Whoever computes a part at a time: on some of the device's cores, or on the whole. */
typedef struct sid2_inference_worker {
    sid2_device *cores; /* NULL: the whole */
    sid2_arena *arena;
    sid2_program *program[SID2_PASS_COUNT]; /* of the plan's graphs, all in that arena */
} sid2_inference_worker;

typedef struct sid2_inference {
    sid2_config config, guide; /* guide: of the other network, where there is one */
    sid2_schedule schedule, guide_schedule;
    sid2_sampling plan;
    sid2_buffers buffers;          /* of the weights */
    sid2_buffers *part;            /* [plan.parts], the weights' borrowed */
    sid2_inference_worker *worker; /* [plan.workers] */
    sid2_team *team;
    bool guided_by_another, loaded, guide_loaded;
    size_t image_bytes; /* of one image or clip */
    float *numbers;     /* [plan.images model.frames], of sid2_inference_upload */
    int given; /* frames that the clips in work begin with: model.given, or 0 where they are made from nothing */
    /* Of the pass that runs. */
    sid2_pass pass;
    int used; /* parts with images that are wanted */
} sid2_inference;

/* Plans and makes the passes that run, at most sample.batch images at a time (or a few more, so that parts are equal), fewer
 * where `memory` (bytes, 0: no limit) takes it; `doing` is for the message where not even one fits: "sampling". */
bool sid2_inference_open(sid2_inference *inference, sid2_device *device, const sid2_config *config,
                         const sid2_config *guide, const bool runs[SID2_PASS_COUNT], size_t memory,
                         const char *doing, sid2_error *err);
void sid2_inference_close(sid2_inference *inference);
/* What it holds on the device; state and arena are those of the plan. */
sid2_memory_report sid2_inference_memory(const sid2_inference *inference);

bool sid2_inference_load(sid2_inference *inference, const char *directory, bool ema, sid2_error *err);
bool sid2_inference_load_guide(sid2_inference *inference, const char *directory, bool ema, sid2_error *err);
bool sid2_inference_load_trainer(sid2_inference *inference, sid2_trainer *trainer, sid2_error *err);
bool sid2_inference_is_loaded(const sid2_inference *inference, sid2_error *err);

/* The same bytes for every part, in an external that is as large, where graphs have it. */
bool sid2_inference_tell(sid2_inference *inference, const char *name, const void *data, sid2_error *err);
/* One number for every image of the batch, rounded once; of clips, another for the frames that are given. */
bool sid2_inference_upload(sid2_inference *inference, const char *name, double value, sid2_error *err);
bool sid2_inference_upload_frames(sid2_inference *inference, const char *name, double value, double given,
                                  sid2_error *err);
/* Labels (-1: none, the table's last row) and seeds of images first .. first + batch; past the end, the last is
 * repeated, and parts of nothing else are not computed in what runs next. */
bool sid2_inference_upload_images(sid2_inference *inference, const uint64_t *seeds, const int32_t *labels,
                                  int first, int count, sid2_error *err);
/* The key of the random numbers of what runs next: 0 for starting noise and evaluation, and 1 + its number for the
 * noise of a sampler's evaluation. */
bool sid2_inference_upload_key(sid2_inference *inference, uint32_t high, sid2_error *err);
bool sid2_inference_run(sid2_inference *inference, sid2_pass pass, sid2_error *err);
/* The batch's values in an external that has some for each image: [plan.batch, ...]. Those of parts that were not computed
 * mean nothing. */
bool sid2_inference_scatter(sid2_inference *inference, const char *name, const void *from, sid2_error *err);
bool sid2_inference_gather(const sid2_inference *inference, const char *name, void *to, sid2_error *err);
/* Until the device has done what it was given. */
bool sid2_inference_wait(const sid2_inference *inference, sid2_error *err);

/* "; the weight X is not finite", or nothing: the end of a message about numbers that are not. Returns `text`. */
const char *sid2_inference_cause(const sid2_inference *inference, char text[200]);

/* The low word of that key, and the whole key of drawn labels; the sample number is the image's seed. */
enum { SID2_SAMPLE_KEY = 0x53694432 };

#endif
