#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "judge.h"
#include "philox.h"
#include "sampler.h"
#include "trainer.h"
#include "unet.h"

/* ---- The side that asks ---- */

bool worker_start(worker *w, const char *const *command, const json_t *request, sid2_error *err)
{
    const char *mode = json_string_value(json_object_get(request, "mode"));
    if (!request) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory for a request");
    *w = (worker){.whole = !mode                          ? 1
                           : strcmp(mode, "sample") == 0  ? WORKER_SAMPLER_STEPS
                           : strcmp(mode, "distill") == 0 ? WORKER_TURNS
                                                          : 1};
    int to[2] = {-1, -1}, from[2] = {-1, -1};
    /* Closed in the next worker, or this one's end would never come. */
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
        return sid2_fail(err, SID2_ERR_IO, "cannot make a pipe: %s", strerror(errno));
    w->process = fork();
    if (w->process == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        signal(SIGPIPE, SIG_DFL);
        execvp(command[0], (char *const *)command);
        printf("error cannot run %s: %s\n", command[0], strerror(errno));
        fflush(stdout);
        _exit(1);
    }
    close(to[0]), close(from[1]);
    w->in = fdopen(to[1], "w");
    w->out = fdopen(from[0], "r");
    char *line = json_dumps(request, JSON_COMPACT), answer[512];
    bool ok = w->process > 0 && w->in && w->out && line;
    if (!ok) sid2_fail(err, SID2_ERR_IO, "cannot start %s", command[0]);
    ok = ok && worker_ask(w, line, answer, sizeof answer, err);
    free(line);
    if (ok && sscanf(answer, "ready %63s %lf", w->version, &w->parameters) != 2)
        ok = sid2_fail(err, SID2_ERR_FORMAT, "%s answered '%.80s'", command[0], answer);
    if (!ok) worker_stop(w);
    return ok;
}

bool worker_ask(worker *w, const char *question, char *answer, size_t size, sid2_error *err)
{
    fprintf(w->in, "%s\n", question);
    fflush(w->in); /* in vain where the process has ended; it may still have left an answer */
    if (!fgets(answer, (int)size, w->out))
        return sid2_fail(err, SID2_ERR_DEVICE, "the process that measures ended without an answer");
    answer[strcspn(answer, "\n")] = 0;
    if (strncmp(answer, "error ", 6) == 0) return sid2_fail(err, SID2_ERR_DEVICE, "%s", answer + 6);
    return true;
}

void worker_stop(worker *w)
{
    if (w->in) fclose(w->in);
    if (w->out) fclose(w->out);
    if (w->process > 0) waitpid(w->process, NULL, 0);
    *w = (worker){0};
}

static void keep_busy(int parent)
{
    enum { AN_HOUR = 3600 };
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent) _exit(1);
    signal(SIGALRM, SIG_DFL);
    alarm(AN_HOUR);
    for (volatile uint64_t turns = 0;; turns = turns + 1) {
    }
}

bool worker_load_start(worker_load *load, int count, sid2_error *err)
{
    int parent = getpid();
    fflush(stdout);
    for (load->count = 0; load->count < count && load->count < WORKER_MAX_LOAD; load->count++) {
        int process = load->process[load->count] = fork();
        if (process == 0) keep_busy(parent);
        if (process < 0)
            return sid2_fail(err, SID2_ERR_IO, "cannot start a busy process: %s", strerror(errno));
    }
    return true;
}

void worker_load_stop(worker_load *load)
{
    for (; load->count > 0; load->count--) {
        kill(load->process[load->count - 1], SIGKILL);
        waitpid(load->process[load->count - 1], NULL, 0);
    }
}

/* ---- The side that works ---- */

enum { MAX_BINDINGS = 24 };

typedef struct bench {
    sid2_config *config;
    sid2_device *device;
    sid2_trainer *trainer;
    sid2_sampler *sampler;
    sid2_judge *judge;
    int side; /* of its pictures */
    unet *unet;
    float *rows;
    sid2_graph *graph; /* of one operator and its gradient */
    sid2_program *program;
    sid2_buffer *buffers[MAX_BINDINGS];
    int buffer_count, batch;
    int32_t *labels;
    uint64_t *seeds;
    uint8_t *pixels;
    double parameters;
} bench;

static bool bench_run(bench *b, int64_t steps, sid2_error *err)
{
    if (b->sampler) {
        for (int64_t i = 0; i < steps; i += WORKER_SAMPLER_STEPS)
            if (!sid2_sampler_run(b->sampler, b->seeds, b->labels, b->batch, b->pixels, NULL, NULL, err))
                return false;
        return true;
    }
    for (int64_t i = 0; b->unet && i < steps; i++)
        if (!unet_step(b->unet, err)) return false;
    if (b->unet) return true;
    for (int64_t i = 0; b->judge && i < steps; i++)
        if (!sid2_judge_rows(b->judge, b->pixels, b->batch, b->side, b->side, 3, b->rows, err)) return false;
    for (int64_t i = 0; !b->judge && i < steps; i++) {
        if (b->trainer ? !sid2_trainer_step(b->trainer, b->pixels, b->labels, err)
                       : !sid2_program_run(b->program, err))
            return false;
    }
    char byte; /* of dy; a device may still be at it */
    return !b->program || sid2_buffer_download(b->buffers[b->buffer_count - 1], 0, &byte, 1, err);
}

static int64_t integer(const json_t *request, const char *key)
{
    return json_integer_value(json_object_get(request, key));
}

static sid2_device *open_asked(const json_t *request, sid2_error *err)
{
    const device_choice choice = {
        .id = json_string_value(json_object_get(request, "device")),
        .threads = integer(request, "threads"),
        .deterministic = json_is_true(json_object_get(request, "deterministic")),
        .tf32 = json_is_true(json_object_get(request, "tf32")),
        .fp8 = json_string_value(json_object_get(request, "fp8")),
    };
    if (!choice.id) return sid2_fail(err, SID2_ERR_FORMAT, "the request names no device"), NULL;
    return open_device(&choice, err);
}

static bool start_device(bench *b, const json_t *request, sid2_error *err)
{
    b->device = open_asked(request, err);
    return b->device != NULL;
}

static bool configure(bench *b, const json_t *request, const char *dtype, sid2_error *err)
{
    const char *key;
    json_t *value;
    b->config = sid2_config_create();
    bool ok = b->config || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    json_object_foreach(json_object_get(request, "config"), key, value) ok =
        ok && config_set(b->config, key, json_string_value(value), err);
    return ok && config_set_int(b->config, "train.batch", b->batch, err) &&
           config_set_int(b->config, "sample.batch", b->batch, err) &&
           config_set_int(b->config, "sample.steps", WORKER_SAMPLER_STEPS, err) &&
           config_set(b->config, "train.precision", dtype, err) &&
           config_set(b->config, "sample.precision", dtype, err) &&
           config_set(b->config, "sample.guidance", "1", err);
}

/* A checkpoint of fresh weights in `folder`, by a process of its own: what training holds must not count as
 * the sampler's memory. */
static bool save_fresh(const bench *b, const json_t *request, const char *folder, sid2_error *err)
{
    int status = 0, process = fork();
    if (process == 0) {
        sid2_device *device = open_asked(request, err);
        sid2_config *config = sid2_config_clone(b->config);
        bool ok = device && config && config_set(config, "train.batch", "1", err);
        sid2_trainer *trainer = ok ? sid2_trainer_create(device, config, 0, err) : NULL;
        ok = trainer && sid2_trainer_save(trainer, folder, err);
        if (!ok) printf("error %s\n", err->message), fflush(stdout);
        _exit(ok ? 0 : 1);
    }
    bool ok = process > 0 && waitpid(process, &status, 0) == process && status == 0;
    return ok || sid2_fail(err, SID2_ERR_DEVICE, "cannot make weights to sample from");
}

static bool start_sampler(bench *b, const json_t *request, sid2_error *err)
{
    char root[4096], folder[4096];
    if (!sid2_scratch_folder(root, err)) return false;
    bool ok = sid2_path(folder, err, "%s/fresh", root) && save_fresh(b, request, folder, err) &&
              start_device(b, request, err) &&
              (b->sampler = sid2_sampler_create(b->device, b->config, 0, err)) &&
              sid2_sampler_load(b->sampler, folder, true, err);
    sid2_remove_tree(root, NULL);
    return ok;
}

static bool start_model(bench *b, const json_t *request, const char *mode, const char *dtype, sid2_error *err)
{
    if (!configure(b, request, dtype, err)) return false;
    if (strcmp(mode, "distill") == 0 && (!config_set(b->config, "distill.k", "8", err) ||
                                         !config_set(b->config, "distill.dropout", "0", err)))
        return false;
    int classes = sid2_config_classes(b->config);
    size_t bytes = (size_t)b->batch * sid2_config_image_bytes(b->config);
    b->pixels = malloc(bytes);
    b->labels = malloc((size_t)b->batch * sizeof *b->labels);
    b->seeds = malloc((size_t)b->batch * sizeof *b->seeds);
    if (!b->pixels || !b->labels || !b->seeds) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < bytes; i++) b->pixels[i] = (uint8_t)sid2_philox_word(0, i, 0, 0);
    for (int i = 0; i < b->batch; i++) b->labels[i] = classes ? i % classes : -1, b->seeds[i] = (uint64_t)i;
    sid2_model_info *info = sid2_model_describe(b->config, NULL, 0, err);
    if (!info) return false;
    b->parameters = (double)info->parameters;
    sid2_model_info_destroy(info);
    if (strcmp(mode, "sample") == 0) return start_sampler(b, request, err);
    return start_device(b, request, err) && (b->trainer = sid2_trainer_create(b->device, b->config, 0, err));
}

/* ---- One operator and its gradient ---- */

static sid2_shape shape_of(const json_t *list)
{
    int64_t dim[SID2_MAX_RANK];
    int rank = 0;
    for (; rank < (int)json_array_size(list) && rank < SID2_MAX_RANK; rank++)
        dim[rank] = json_integer_value(json_array_get(list, (size_t)rank));
    return sid2_shape_make(rank, dim);
}

static sid2_tensor build_operator(sid2_graph *g, const json_t *request, const char *op, sid2_dtype dtype)
{
    sid2_shape shape = shape_of(json_object_get(request, "shape"));
    int64_t channels = shape.rank ? shape.dim[shape.rank - 1] : 0, out = integer(request, "out"),
            kernel = integer(request, "kernel");
    if (strcmp(op, "linear") == 0)
        return sid2_linear(
            g, sid2_graph_variable(g, "x", dtype, shape),
            sid2_graph_param(g, sid2_graph_params(g, "", true), "w", sid2_shape_of(out, channels), true, 0,
                             1),
            sid2_graph_param(g, sid2_graph_params(g, "", true), "b", sid2_shape_of(out), false, 0, 1));
    if (strcmp(op, "conv2d") == 0)
        return sid2_conv2d(
            g, sid2_graph_variable(g, "x", dtype, shape),
            sid2_graph_param(g, sid2_graph_params(g, "", true), "w",
                             sid2_shape_of(out, kernel, kernel, channels), true, 0, 1),
            sid2_graph_param(g, sid2_graph_params(g, "", true), "b", sid2_shape_of(out), false, 0, 1));
    if (strcmp(op, "group_norm") == 0)
        return sid2_silu(g, sid2_group_norm(g, sid2_graph_variable(g, "x", dtype, shape),
                                            sid2_graph_param(g, sid2_graph_params(g, "", true), "w",
                                                             sid2_shape_of(channels), false, 1, 0),
                                            sid2_graph_param(g, sid2_graph_params(g, "", true), "b",
                                                             sid2_shape_of(channels), false, 0, 1),
                                            (int)integer(request, "groups"), 1e-6f));
    if (strcmp(op, "row_norm") == 0)
        return sid2_rms_norm(
            g, sid2_graph_variable(g, "x", dtype, shape),
            sid2_graph_param(g, sid2_graph_params(g, "", true), "w", sid2_shape_of(channels), false, 1, 0),
            1e-6f);
    /* sid2's attention has its rotary positions in it; the other side is spared them. */
    sid2_shape three = shape;
    three.dim[2] = 3 * channels;
    int32_t side = (int32_t)lround(sqrt((double)shape.dim[1]));
    return sid2_attention(g, sid2_graph_variable(g, "qkv", dtype, three), SID2_NONE, SID2_NONE,
                          (int)integer(request, "heads"), (int32_t[]){1, side, side}, false, 1e-6f, 100);
}

static bool fill(sid2_buffer *buffer, sid2_dtype dtype, size_t count, sid2_error *err)
{
    size_t size = sid2_dtype_size(dtype);
    void *values = malloc(count * size);
    if (!values) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) {
        float value = 2 * sid2_uniform(sid2_philox_word(0, i, 0, 0)) - 1;
        if (dtype == SID2_F32)
            ((float *)values)[i] = value;
        else
            ((uint16_t *)values)[i] = sid2_f32_to_bf16(value);
    }
    bool ok = sid2_buffer_upload(buffer, 0, values, count * size, err);
    free(values);
    return ok;
}

static bool start_operator(bench *b, const json_t *request, const char *dtype, sid2_error *err)
{
    sid2_dtype type = strcmp(dtype, "bf16") == 0 ? SID2_BF16 : SID2_F32;
    const char *op = json_string_value(json_object_get(request, "op"));
    sid2_graph *g = b->graph = sid2_graph_create(type);
    if (!g || !op) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    sid2_tensor y = build_operator(g, request, op, type);
    sid2_graph_fuse(g);
    if (y != SID2_NONE) {
        sid2_type result = sid2_graph_type(g, y);
        sid2_tensor dy = sid2_graph_external(g, "dy", result.dtype, result.shape);
        sid2_graph_backward(g, &y, &dy, 1);
    }
    if (!sid2_graph_finish(g, err)) return false;
    sid2_binding bindings[MAX_BINDINGS];
    for (sid2_tensor t = 0; t < g->tensor_count; t++) {
        const sid2_tensor_info *info = &g->tensors[t];
        if (!info->external || info->base != SID2_NONE || b->buffer_count == MAX_BINDINGS) continue;
        size_t count = (size_t)sid2_shape_count(info->shape);
        sid2_buffer *buffer = sid2_buffer_create(b->device, count * sid2_dtype_size(info->dtype), err);
        if (!buffer || !fill(buffer, info->dtype, count, err)) return false;
        bindings[b->buffer_count] = (sid2_binding){info->name, buffer};
        b->buffers[b->buffer_count++] = buffer;
    }
    for (int32_t s = 0; s < g->params_count; s++)
        for (int32_t p = 0; p < g->params[s].count; p++)
            b->parameters += (double)sid2_shape_count(g->params[s].item[p].shape);
    return (b->program = sid2_program_create(b->device, g, NULL, bindings, b->buffer_count, err)) != NULL;
}

/* ---- A network that judges, on pictures of the size that it wants ---- */

static bool start_judge(bench *b, const json_t *request, sid2_error *err)
{
    const char *network = json_string_value(json_object_get(request, "network")),
               *weights = json_string_value(json_object_get(request, "weights"));
    const int frames = (int)integer(request, "frames");
    if (!network || !weights) return sid2_fail(err, SID2_ERR_FORMAT, "the request is incomplete");
    const bool is_i3d = strcmp(network, "i3d") == 0;
    b->judge = is_i3d ? sid2_judge_open_clips(b->device, weights, b->batch, frames, err)
                      : sid2_judge_open(b->device, weights, b->batch, false, err);
    if (!b->judge) return false;
    b->side = is_i3d ? SID2_I3D_SIDE : SID2_INCEPTION_SIDE;
    const size_t bytes = (size_t)b->batch * (size_t)frames * (size_t)b->side * (size_t)b->side * 3;
    b->pixels = malloc(bytes);
    b->rows = malloc((size_t)b->batch * (size_t)sid2_judge_width(b->judge) * sizeof *b->rows);
    if (!b->pixels || !b->rows) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < bytes; i++) b->pixels[i] = (uint8_t)sid2_philox_word(0, i, 0, 0);
    sid2_safetensors *file = sid2_safetensors_open(weights, err);
    for (int i = 0; file && i < sid2_safetensors_count(file); i++)
        b->parameters += (double)sid2_shape_count(sid2_safetensors_at(file, i)->shape);
    sid2_safetensors_close(file);
    return file != NULL;
}

static bool start_unet(bench *b, const char *dtype, sid2_error *err)
{
    sid2_dtype type = strcmp(dtype, "bf16") == 0 ? SID2_BF16 : SID2_F32;
    if (!(b->unet = unet_open(b->device, type, b->batch, err))) return false;
    b->parameters = unet_parameters(b->unet);
    return true;
}

static bool start(bench *b, const json_t *request, sid2_error *err)
{
    const char *mode = json_string_value(json_object_get(request, "mode"));
    const char *dtype = json_string_value(json_object_get(request, "dtype"));
    b->batch = (int)integer(request, "batch");
    if (!mode || !dtype) return sid2_fail(err, SID2_ERR_FORMAT, "the request is incomplete");
    bool ok = strcmp(mode, "judge") == 0  ? start_device(b, request, err) && start_judge(b, request, err)
              : strcmp(mode, "unet") == 0 ? start_device(b, request, err) && start_unet(b, dtype, err)
              : strcmp(mode, "op") == 0
                  ? start_device(b, request, err) && start_operator(b, request, dtype, err)
                  : start_model(b, request, mode, dtype, err);
    return ok && bench_run(b, 1, err);
}

static void stop(bench *b)
{
    sid2_judge_close(b->judge);
    unet_close(b->unet);
    sid2_trainer_destroy(b->trainer);
    sid2_sampler_destroy(b->sampler);
    if (b->program) sid2_program_destroy(b->program);
    for (int i = 0; i < b->buffer_count; i++) sid2_buffer_destroy(b->buffers[i]);
    if (b->graph) sid2_graph_destroy(b->graph);
    sid2_device_close(b->device);
    sid2_config_destroy(b->config);
    free(b->labels);
    free(b->seeds);
    free(b->pixels);
    free(b->rows);
}

/* ---- Answers ---- */

static double resident_mib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
    if (file) fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

typedef struct operator_sums {
    double runs, seconds, multiply_adds, bytes;
} operator_sums;

static const sid2_graph *program_of(bench *b, int number, sid2_program **program)
{
    const sid2_graph *g = b->graph;
    *program = b->trainer   ? sid2_trainer_program(b->trainer, number, &g)
               : b->sampler ? sid2_sampler_program(b->sampler, number, &g)
               : number > 0 ? NULL
               : b->unet    ? unet_program(b->unet, &g)
                            : b->program;
    return g;
}

/* Adds `sign` times what was measured so far, by operator. */
static bool add_times(bench *b, double sign, operator_sums sums[SID2_OP_COUNT], int *workers)
{
    sid2_program *program;
    const sid2_graph *g;
    for (*workers = 0; g = program_of(b, *workers, &program), program; ++*workers) {
        const sid2_node_time *times = sid2_program_profile(program);
        if (!times) return false;
        for (int32_t n = 0; n < g->node_count; n++) {
            sid2_cost cost = sid2_graph_node_cost(g, &g->nodes[n]);
            operator_sums *sum = &sums[g->nodes[n].op];
            double runs = sign * (double)times[n].runs;
            sum->runs += runs;
            sum->seconds += sign * times[n].seconds;
            sum->multiply_adds += cost.multiply_adds * runs;
            sum->bytes += cost.bytes * runs;
        }
    }
    return true;
}

/* Time by operator, summed over the nodes of the graph that is run; where workers run it side by side, of their mean. */
static bool profile(bench *b, int64_t steps, sid2_error *err)
{
    operator_sums sums[SID2_OP_COUNT] = {0};
    int workers;
    if (!add_times(b, -1, sums, &workers))
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "this device measures no operators");
    double began = sid2_clock();
    if (!bench_run(b, steps, err)) return false;
    double seconds = (sid2_clock() - began) / (double)steps, each = (double)steps;
    if (!add_times(b, 1, sums, &workers)) return false;
    printf("{\"seconds\": %.9g, \"nodes\": [", seconds);
    const char *comma = "";
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        if (sums[op].runs == 0) continue;
        printf("%s[\"%s\", %g, %.9g, %.9g, %.9g]", comma, sid2_op_name((sid2_op)op), sums[op].runs / each,
               sums[op].seconds / each / workers, sums[op].multiply_adds / each, sums[op].bytes / each);
        comma = ", ";
    }
    puts("]}");
    return true;
}

static bool answer(bench *b, char *line, double baseline, sid2_error *err)
{
    long long steps;
    struct rusage usage;
    if (sscanf(line, "run %lld", &steps) == 1) {
        double began = sid2_clock();
        if (!bench_run(b, steps, err)) return false;
        print_notice(b->device);
        printf("%.6f\n", sid2_clock() - began);
    } else if (sscanf(line, "profile %lld", &steps) == 1) {
        return profile(b, steps, err);
    } else if (strcmp(line, "mem") == 0) {
        const char *id = sid2_device_describe(b->device)->id;
        getrusage(RUSAGE_SELF, &usage);
        if (strcmp(id, "cpu") == 0 || strcmp(id, "reference") == 0)
            printf("%.1f %.1f\n", (double)usage.ru_maxrss / 1024, baseline);
        else /* a GPU's: what sid2 holds there */
            printf("%.1f 0\n", (double)sid2_device_used(b->device) / (1 << 20));
    } else {
        return sid2_fail(err, SID2_ERR_USAGE, "unknown request '%.40s'", line);
    }
    return true;
}

int worker_serve(void)
{
    char *line = NULL;
    size_t size = 0;
    sid2_error err = {0};
    bench b = {0};
    double baseline = resident_mib();
    json_t *request = getline(&line, &size, stdin) > 0 ? json_loads(line, 0, NULL) : NULL;
    bool ok =
        request ? start(&b, request, &err) : sid2_fail(&err, SID2_ERR_FORMAT, "the request is not JSON");
    if (ok) printf("ready " SID2_VERSION " %.0f\n", b.parameters);
    while (ok && getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "quit") == 0) break;
        ok = answer(&b, line, baseline, &err);
    }
    if (!ok) printf("error %s\n", err.message);
    json_decref(request);
    free(line);
    stop(&b);
    return ok ? 0 : 1;
}
