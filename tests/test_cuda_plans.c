/* Every plan that the presets want of cuDNN, made without a GPU: the graphs of a training step and of a
 * guided sampling step give the calls, cuDNN is told the device in JSON, a stub stands in for the driver.
 * That a plan exists is proved, with its workspace; not that it is right or fast.
 *
 * Arguments: --all (else each architecture gets every other call, as far as the time goes; all: also in the
 * deterministic mode), a preset's name (else all). */
#include <stdio.h>

#include "libraries.h"

#if !SID2_HAVE_CUDNN
int main(void)
{
    puts("skipped: built without cuDNN");
    return 77;
}
#else

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sid2/sid2.h>

#include "config.h"
#include "cudnn_graph.h"
#include "sampling.h"
#include "training.h"

/* The last two attend over clips: 4096 and 1024 tokens of 16 frames, and with patches of a pixel 16384 and 4096. */
static const char *const presets[] = {"imagenet128-1", "imagenet128-2", "imagenet256-1", "imagenet256-2",
                                      "imagenet512-2", "imagenet512-4", "fashion-mnist", "cifar10",
                                      "emoji128",      "k600-64-1",     "k600-128-2"};
enum { PRESETS = sizeof presets / sizeof presets[0], PIXELS = 16 * 128 * 128, MAX_CALLS = 1000 };

/* ---- Devices on paper ---- */

typedef struct paper_device {
    const char *name;
    int capability, multiprocessors, shared, l2, core_khz, memory_khz;
} paper_device;

static const paper_device papers[] = {
    {"A100-SXM4-80GB", 80, 108, 166912, 41943040, 1410000, 1593000},
    {"H100-SXM5-80GB", 90, 132, 232448, 52428800, 1980000, 2619000},
};
enum { PAPERS = sizeof papers / sizeof papers[0] };

static bool describe(sid2_cudnn *cudnn, const paper_device *d)
{
    char json[1200];
    int length = snprintf(
        json, sizeof json,
        "{\"cudaDeviceId\":0,\"deviceName\":\"%s\",\"deviceVer\":%d,\"driverVer\":13000,\"isTccDriver\":0,"
        "\"l2CacheSize\":%d,\"maxBlockSize\":[1024,1024,64],\"maxCtasPerSM\":32,"
        "\"maxGridSize\":[2147483647,65535,65535],\"maxRegistersPerSM\":65536,"
        "\"maxSharedMemoryPerBlock\":49152,\"maxSharedMemoryPerBlockOptin\":%d,\"maxThreadsPerBlock\":1024,"
        "\"maxThreadsPerSM\":2048,\"memClockRateKHz\":%d,\"multiProcessorCount\":%d,\"pciDeviceId\":0,"
        "\"regsPerBlock\":65536,\"reservedSharedMemoryPerBlock\":1024,\"smClockRateKHz\":%d,"
        "\"supportCoopLaunch\":1,\"totalGlobalMem\":85000000000,\"warpSize\":32}",
        d->name, 10 * d->capability, d->l2, d->shared, d->memory_khz, d->multiprocessors, d->core_khz);
    return cudnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &cudnn->device) ==
               CUDNN_STATUS_SUCCESS &&
           cudnn->cudnnBackendSetAttribute(cudnn->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                           CUDNN_TYPE_CHAR, length + 1, json) == CUDNN_STATUS_SUCCESS &&
           cudnn->cudnnBackendFinalize(cudnn->device) == CUDNN_STATUS_SUCCESS;
}

/* ---- The calls ---- */

typedef struct wanted {
    sid2_call call;
    sid2_attr attr;
    const char *preset;
} wanted;

static wanted calls[MAX_CALLS];
static int call_count;
static sid2_error err;

/* Memory that nobody touches: presence is all that a plan asks for. */
static sid2_operand tensor_of(const sid2_graph *g, sid2_tensor t)
{
    if (t == SID2_NONE) return (sid2_operand){0};
    sid2_type type = sid2_graph_type(g, t);
    return (sid2_operand){.data = (void *)256, .dtype = type.dtype, .shape = type.shape};
}

static bool same(const wanted *a, const wanted *b)
{
    bool equal = a->call.op == b->call.op && a->attr.heads == b->attr.heads;
    for (int i = 0; equal && i < SID2_MAX_INPUTS; i++)
        equal = a->call.in[i].data == b->call.in[i].data &&
                sid2_shape_equal(a->call.in[i].shape, b->call.in[i].shape);
    for (int i = 0; equal && i < SID2_MAX_OUTPUTS; i++)
        equal = sid2_shape_equal(a->call.out[i].shape, b->call.out[i].shape);
    return equal;
}

static void collect(const char *preset, const sid2_graph *g)
{
    for (int32_t n = 0; n < g->node_count; n++) {
        const sid2_node *node = &g->nodes[n];
        if (!sid2_cuda_cudnn[node->op].run || call_count == MAX_CALLS) continue;
        wanted *w = &calls[call_count];
        *w = (wanted){.call.op = node->op, .attr = node->attr, .preset = preset};
        for (int i = 0; i < SID2_MAX_INPUTS; i++) w->call.in[i] = tensor_of(g, node->in[i]);
        for (int i = 0; i < SID2_MAX_OUTPUTS; i++) w->call.out[i] = tensor_of(g, node->out[i]);
        w->call.attr = &w->attr;
        bool known = false;
        for (int i = 0; i < call_count && !known; i++) known = same(&calls[i], w);
        call_count += !known;
    }
}

static bool set(sid2_config *c, const char *key, const char *value)
{
    char assignment[80];
    snprintf(assignment, sizeof assignment, "%s=%s", key, value);
    return sid2_config_set(c, assignment, &err);
}

/* As many images or clips as make 16 x 128² cells at the finest level. */
static bool collect_preset(const char *preset)
{
    sid2_config *c = sid2_config_create();
    sid2_training training = {0};
    sid2_training_site site = {.alignment = 256, .cores = 1, .gpu = true, .fill = true};
    sid2_recipe recipe;
    sid2_graph *sample = NULL;
    bool ok =
        c && sid2_config_preset(c, preset, &err) && (c->model_frames == 1 || set(c, "model.patch", "1"));
    if (ok) {
        int64_t side = c->model_image_size.height / c->model_patch,
                images = PIXELS / (side * side * c->model_frames);
        char count[32];
        snprintf(count, sizeof count, "%d", (int)images);
        ok = set(c, "train.batch", count) && set(c, "train.microbatch", count) &&
             set(c, "train.precision", "bf16") && set(c, "sample.precision", "bf16") &&
             (recipe = sid2_recipe_of(c), true) && sid2_training_plan(c, &recipe, &site, &training, &err) &&
             (sample = sid2_pass_graph(c, NULL, SID2_PASS_GUIDED, images, &err));
    }
    if (ok) {
        collect(preset, training.graph[0]);
        collect(preset, sample);
    }
    sid2_training_clear(&training);
    sid2_graph_destroy(sample);
    sid2_config_destroy(c);
    return ok;
}

/* ---- The plans ---- */

/* Without --all: seconds for an architecture. Calls are taken in strides, so that what was reached is of all
 * presets. */
enum { BUDGET = 50, SPREAD = 7 };

/* Known to have no engine, for cuDNN wants channels by 8: a pixel's three colours. And the deterministic gradient of
 * attention keeps scores of all pairs of tokens, 4 GiB for eight heads of 16384, which is more than a plan may have. Own
 * kernels take these. */
static bool taken_by_own(const sid2_call *call)
{
    enum { TOKENS = 1 << 14 };
    const sid2_cuda_target *target = call->target;
    if (call->op == SID2_OP_attention_grad && target->deterministic && call->out[0].shape.dim[1] >= TOKENS)
        return true;
    const sid2_shape filter = call->op == SID2_OP_conv2d_wgrad ? call->out[0].shape : call->in[1].shape;
    bool convolution = call->op != SID2_OP_attention && call->op != SID2_OP_attention_grad;
    return convolution && (filter.dim[0] % 8 || filter.dim[3] % 8);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* True unless a plan is missing that must be there. */
static bool try_call(const sid2_cuda_target *target, const wanted *w, size_t *most)
{
    char x[64], y[64];
    sid2_call call = w->call;
    sid2_error why = {0};
    call.target = target;
    double start = now();
    bool made = sid2_cuda_cudnn[call.op].prepare(&call, &why), own = !made && taken_by_own(&call);
    printf("sm_%d %-14s %-15s %-18s %-18s %7.1f MiB %6.2f s  %s\n", target->capability, w->preset,
           sid2_op_name(call.op), sid2_shape_text(call.in[0].shape, x), sid2_shape_text(call.out[0].shape, y),
           (double)call.scratch_bytes / (1 << 20), now() - start,
           made  ? "planned"
           : own ? "own kernel"
                 : "NO PLAN");
    fflush(stdout);
    if (call.scratch_bytes > *most) *most = call.scratch_bytes;
    if (made && sid2_cuda_cudnn[call.op].release) sid2_cuda_cudnn[call.op].release(&call);
    return made || own;
}

/* On Hopper, what cuDNN compiles for a convolution is of Ampere's kind: there all must be ready-made. Returns
 * those that are not. */
static int count_compiled(const sid2_cudnn *cudnn, const paper_device *paper)
{
    int compiled = 0;
    for (const sid2_cudnn_plan *p = cudnn->plans; p; p = p->next) {
        if (!p->compiled || p->graph.steps[0].verb > SID2_CUDNN_WGRAD || paper->capability != 90) continue;
        const int64_t *dim = p->graph.tensors[0].dim;
        printf("sm_90: a compiled engine for a convolution of %d x %d x %d x %d\n", (int)dim[0], (int)dim[2],
               (int)dim[3], (int)dim[1]);
        compiled++;
    }
    return compiled;
}

static int run(const paper_device *paper, int index, bool all, bool deterministic)
{
    static sid2_cudnn cudnn;
    char why[200];
    if (!sid2_cudnn_load(&cudnn, why, sizeof why)) {
        printf("skipped: %s\n", why);
        return 77;
    }
    if (!describe(&cudnn, paper)) {
        puts("FAILED: cuDNN refuses the description of the device");
        return 1;
    }
    const sid2_cuda_target target = {.multiprocessors = paper->multiprocessors,
                                     .capability = paper->capability,
                                     .deterministic = deterministic,
                                     .cudnn = &cudnn};
    size_t most = 0;
    int tried = 0, failed = 0;
    double start = now();
    for (int first = 0; first < SPREAD; first++)
        for (int i = first; i < call_count; i += SPREAD) {
            if (!all && (i % PAPERS != index || now() - start > BUDGET)) continue;
            tried++;
            failed += !try_call(&target, &calls[i], &most);
        }
    printf("sm_%d%s: %d of %d calls, %d without a plan; the most scratch %.1f MiB\n\n", paper->capability,
           deterministic ? ", deterministic" : "", tried, call_count, failed, (double)most / (1 << 20));
    failed += count_compiled(&cudnn, paper);
    sid2_cudnn_forget(&cudnn);
    cudnn.cudnnBackendDestroyDescriptor(cudnn.device);
    return failed != 0;
}

int main(int argc, char **argv)
{
    bool all = false;
    const char *only = NULL;
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--all"))
            all = true;
        else
            only = argv[i];
    if (!dlopen(SID2_STUB_CUDA, RTLD_NOW | RTLD_GLOBAL)) {
        printf("FAILED: %s\n", dlerror());
        return 1;
    }
    for (int p = 0; p < PRESETS; p++)
        if ((!only || !strcmp(only, presets[p])) && !collect_preset(presets[p])) {
            printf("FAILED: %s: %s\n", presets[p], err.message);
            return 1;
        }
    int result = 0;
    for (int i = 0; i < (all ? 2 : 1) * PAPERS; i++) {
        int code = run(&papers[i % PAPERS], i % PAPERS, all, i >= PAPERS);
        if (code) result = code;
    }
    return result;
}
#endif
