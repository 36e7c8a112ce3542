#include "ways.h"

#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "digest.h"
#include "keep.h"

/* ---- What is known ---- */

typedef struct sid2_cuda_known {
    char asked[33];           /* its digest */
    int way;                  /* in the library's order */
    sid2_way_report measured; /* ways = 0: it is only kept */
} known;

enum { MOST_TEXT = 1 << 18, LINE = 32 + 1 + 11 + 1 };
static const char kind[] = "cuda-ways";

static known *find(const sid2_cuda_kept *kept, const char asked[33])
{
    for (int i = 0; kept && i < kept->count; i++)
        if (!strcmp(kept->item[i].asked, asked)) return &kept->item[i];
    return NULL;
}

/* NULL when memory runs out: then it is not known. */
static known *find_or_add(sid2_cuda_kept *kept, const char asked[33])
{
    known *there = find(kept, asked);
    if (there) return there;
    if (kept->count == kept->capacity) {
        int capacity = kept->capacity ? 2 * kept->capacity : 64;
        known *grown = realloc(kept->item, (size_t)capacity * sizeof *grown);
        if (!grown) return NULL;
        kept->item = grown;
        kept->capacity = capacity;
    }
    there = &kept->item[kept->count++];
    *there = (known){0};
    memcpy(there->asked, asked, sizeof there->asked);
    return there;
}

/* Of each call that does not go by the library's first way, a line. NULL when memory runs out. */
static char *text_of(const sid2_cuda_kept *kept)
{
    char *text = malloc((size_t)kept->count * LINE + 1), *end = text;
    if (!text) return NULL;
    *text = 0;
    for (int i = 0; i < kept->count; i++)
        if (kept->item[i].way) end += sprintf(end, "%s %d\n", kept->item[i].asked, kept->item[i].way);
    return text;
}

/* Nothing but what text_of writes. */
static bool parse(sid2_cuda_kept *kept, const char *text)
{
    for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
        char asked[33];
        int way, length = 0;
        if (sscanf(at, "%32[0-9a-f] %9d%n", asked, &way, &length) != 2 || at[length] != '\n' || way < 1 ||
            strlen(asked) != 32)
            return false;
        known *added = find_or_add(kept, asked);
        if (!added) return false;
        added->way = way;
    }
    char *known_text = text_of(kept);
    bool same = known_text && !strcmp(text, known_text);
    free(known_text);
    return same;
}

int sid2_cuda_kept_load(sid2_cuda_kept *kept, const char *identity, char path[4096])
{
    *kept = (sid2_cuda_kept){0};
    snprintf(kept->identity, sizeof kept->identity, "%s", identity);
    char *text = malloc(MOST_TEXT);
    if (!text) return 0;
    int there = sid2_kept_text(kind, kept->identity, text, MOST_TEXT, path);
    if (there > 0 && !parse(kept, text)) there = -1, kept->count = 0;
    if (there > 0) sid2_digest_bytes(text, strlen(text), kept->digest);
    free(text);
    return there;
}

bool sid2_cuda_kept_write(const sid2_cuda_kept *kept, sid2_error *err)
{
    char *text = text_of(kept);
    if (!text) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    bool ok = sid2_keep_text(kind, kept->identity, text, err);
    free(text);
    return ok;
}

void sid2_cuda_kept_clear(sid2_cuda_kept *kept)
{
    free(kept->item);
    *kept = (sid2_cuda_kept){0};
}

const sid2_way_report *sid2_cuda_kept_measured(const sid2_cuda_kept *kept, int i)
{
    for (int k = 0; k < kept->count; k++)
        if (kept->item[k].measured.ways && i-- == 0) return &kept->item[k].measured;
    return NULL;
}

/* ---- Of a call ---- */

int sid2_cuda_way_first(const sid2_cuda_target *target, const void *asked, size_t bytes, int count)
{
    const sid2_cuda_kept *kept = target->kept;
    char digest[33];
    if (!kept || kept->measures) return 0; /* which is what the others are compared with */
    sid2_digest_bytes(asked, bytes, digest);
    const known *there = find(kept, digest);
    return there && there->way < count ? there->way : 0;
}

int sid2_cuda_ways_wanted(const sid2_cuda_target *target)
{
    const sid2_cuda_kept *kept = target->kept;
    return kept && kept->measures ? SID2_CUDA_WAYS : 1;
}

/* ---- Measuring ---- */

int sid2_cuda_fastest(const float *times, int count)
{
    const float margin = 0.97f; /* what a measurement is wrong by */
    int fastest = 0;
    for (int i = 1; i < count; i++)
        if (times[i] < (fastest ? 1 : margin) * times[fastest]) fastest = i;
    return fastest;
}

enum { ROUNDS = 5, RUNS = 8 };

/* Milliseconds of a run; INFINITY: it cannot. Several on end, so that the GPU does not wait for the host. */
static float time_of(const sid2_cuda_trial *trial, int way, cudaStream_t stream, const cudaEvent_t marks[2])
{
    float milliseconds;
    bool ok = cudaEventRecord(marks[0], stream) == cudaSuccess;
    for (int i = 0; ok && i < RUNS; i++) ok = trial->run(trial->context, way);
    ok = ok && cudaEventRecord(marks[1], stream) == cudaSuccess &&
         cudaEventSynchronize(marks[1]) == cudaSuccess &&
         cudaEventElapsedTime(&milliseconds, marks[0], marks[1]) == cudaSuccess;
    return ok ? milliseconds / RUNS : INFINITY;
}

/* All in turn, so that a change of clock meets each; the first round warms up. */
static bool time_all(float times[SID2_CUDA_WAYS], int count, const sid2_cuda_trial *trial,
                     cudaStream_t stream)
{
    cudaEvent_t marks[2] = {NULL};
    bool ok = cudaEventCreate(&marks[0]) == cudaSuccess && cudaEventCreate(&marks[1]) == cudaSuccess;
    for (int round = 0; ok && round <= ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            float time = time_of(trial, i, stream, marks);
            if (round <= 1 || time < times[i]) times[i] = time;
        }
    for (int i = 0; i < 2; i++)
        if (marks[i]) cudaEventDestroy(marks[i]);
    return ok;
}

static void remember(sid2_cuda_kept *kept, const sid2_cuda_ways *ways, const float *times,
                     const sid2_call *call, const sid2_cuda_trial *trial)
{
    char digest[33], x[64], w[64], y[64];
    sid2_digest_bytes(trial->asked, trial->bytes, digest);
    known *k = find_or_add(kept, digest);
    if (!k) return;
    k->way = ways->number[ways->taken];
    k->measured = (sid2_way_report){.ways = ways->count,
                                    .fastest = k->way,
                                    .first = 1e-3 * (double)times[0],
                                    .best = 1e-3 * (double)times[ways->taken]};
    snprintf(k->measured.call, sizeof k->measured.call, "%s %s %s, %s -> %s", sid2_op_name(call->op),
             sid2_dtype_name(call->in[0].dtype), sid2_shape_text(call->in[0].shape, x),
             sid2_shape_text(call->in[1].shape, w), sid2_shape_text(call->out[0].shape, y));
}

void sid2_cuda_ways_measure(sid2_cuda_ways *ways, const sid2_call *call, const sid2_cuda_trial *trial)
{
    const sid2_cuda_target *target = sid2_cuda_target_of(call);
    float times[SID2_CUDA_WAYS];
    void *before = NULL;
    if (ways->measured || ways->count < 2) return;
    ways->measured = true;
    bool saved = cudaMalloc(&before, trial->result_bytes) == cudaSuccess &&
                 cudaMemcpyAsync(before, trial->result, trial->result_bytes, cudaMemcpyDeviceToDevice,
                                 target->stream) == cudaSuccess;
    bool timed = saved && time_all(times, ways->count, trial, target->stream);
    if (saved)
        cudaMemcpyAsync(trial->result, before, trial->result_bytes, cudaMemcpyDeviceToDevice, target->stream);
    if (saved) cudaStreamSynchronize(target->stream);
    if (before) cudaFree(before);
    cudaGetLastError(); /* of memory that was not there; what is final comes again */
    if (!timed) return;
    ways->taken = sid2_cuda_fastest(times, ways->count);
    remember(target->kept, ways, times, call, trial);
}
