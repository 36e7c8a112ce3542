/* sid2 bench: where the time of a training step goes, how it compares with PyTorch in the same minutes, and what
 * more threads give. */
#include "bench.h"

#include "file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host.h"
#include "op.h"
#include "unet.h"

enum { ANSWER_SIZE = 16384 };

/* Single operators, with their gradients. */
static const struct {
    const char *name, *fields;
} operators[] = {
    {"linear 1024 -> 1024, 1024 rows", "{\"op\": \"linear\", \"shape\": [1024, 1024], \"out\": 1024}"},
    {"linear 512 -> 512, 4096 rows", "{\"op\": \"linear\", \"shape\": [4096, 512], \"out\": 512}"},
    {"conv2d 3x3, 4 x 64 x 64 x 128",
     "{\"op\": \"conv2d\", \"shape\": [4, 64, 64, 128], \"out\": 128, \"kernel\": 3}"},
    {"conv2d 3x3, 16 x 32 x 32 x 64",
     "{\"op\": \"conv2d\", \"shape\": [16, 32, 32, 64], \"out\": 64, \"kernel\": 3}"},
    {"attention, 8 heads x 1024 x 64", "{\"op\": \"attention\", \"shape\": [1, 1024, 512], \"heads\": 8}"},
    {"attention, 16 x 2 heads x 256 x 64",
     "{\"op\": \"attention\", \"shape\": [16, 256, 128], \"heads\": 2}"},
    {"group_norm + silu, 16 x 32 x 32 x 64",
     "{\"op\": \"group_norm\", \"shape\": [16, 32, 32, 64], \"groups\": 8}"},
    {"row_norm, 16384 x 128", "{\"op\": \"row_norm\", \"shape\": [16384, 128]}"},
};
enum { OPERATORS = sizeof operators / sizeof operators[0] };

/* ---- Requests ---- */

json_t *bench_request_on(const bench_job *j, const char *dtype, json_t *request)
{
    if (request && !json_object_set_new(request, "dtype", json_string(dtype)) &&
        !json_object_set_new(request, "compile", json_boolean(j->compile)) &&
        !json_object_set_new(request, "device", json_string(j->on.id)) &&
        !json_object_set_new(request, "threads", json_integer(j->on.threads)) &&
        !json_object_set_new(request, "deterministic", json_boolean(j->on.deterministic)) &&
        !json_object_set_new(request, "tf32", json_boolean(j->on.tf32)) &&
        (!j->on.fp8 || !json_object_set_new(request, "fp8", json_string(j->on.fp8))))
        return request;
    json_decref(request);
    return NULL;
}

json_t *bench_request(const bench_job *j, const char *mode, const char *dtype)
{
    json_t *config = json_object();
    const sid2_config_key *key;
    char value[256];
    bool ok = true;
    for (int i = 0; ok && (key = sid2_config_key_at(i)); i++)
        if (strncmp(key->name, "model.", 6) == 0 || strncmp(key->name, "schedule.", 9) == 0 ||
            strncmp(key->name, "loss.", 5) == 0 || strcmp(key->name, "train.arena") == 0 ||
            strcmp(key->name, "train.lanes") == 0 || strcmp(key->name, "train.microbatch") == 0)
            ok = !json_object_set_new(config, key->name,
                                      json_string(config_text(j->config, key->name, value)));
    if (!ok) json_decref(config), config = NULL; /* then there is no request either */
    return bench_request_on(
        j, dtype,
        json_pack("{s:o, s:s, s:I}", "config", config, "mode", mode, "batch", (json_int_t)j->batch));
}

static json_t *request_operator(const bench_job *j, const char *fields, const char *dtype)
{
    json_t *request = json_loads(fields, 0, NULL);
    if (json_object_set_new(request, "mode", json_string("op"))) {
        json_decref(request);
        request = NULL; /* without memory there is none */
    }
    return bench_request_on(j, dtype, request);
}

static int64_t unet_batch(const bench_job *j) { return j->own_batch ? j->own_batch : UNET_BATCH; }

static json_t *request_unet(const bench_job *j, const char *dtype)
{
    return bench_request_on(j, dtype,
                            json_pack("{s:s, s:I}", "mode", "unet", "batch", (json_int_t)unet_batch(j)));
}

bool bench_start_sid2(const bench_job *j, worker *w, const json_t *request, sid2_error *err)
{
    return worker_start(w, (const char *const[]){j->program, "bench", "--serve", NULL}, request, err);
}

bool bench_start_pytorch(const bench_job *j, worker *w, const json_t *request, const worker *ours,
                         sid2_error *err)
{
    if (!worker_start(w, (const char *const[]){j->python, j->script, NULL}, request, err)) return false;
    if (fabs(ours->parameters - w->parameters) <= 0.01 * w->parameters) return true;
    return sid2_fail(err, SID2_ERR_INTERNAL, "the models differ: %.0f parameters here, %.0f in PyTorch",
                     ours->parameters, w->parameters);
}

/* ---- Measuring ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

/* Seconds a step, over `steps` steps. */
static bool time_steps(worker *w, int64_t steps, double *seconds, sid2_error *err)
{
    char question[64], reply[512];
    snprintf(question, sizeof question, "run %lld", (long long)steps);
    if (!worker_ask(w, question, reply, sizeof reply, err)) return false;
    *seconds = strtod(reply, NULL) / (double)steps;
    return *seconds > 0 || sid2_fail(err, SID2_ERR_FORMAT, "a measurement answered '%.80s'", reply);
}

/* How many steps last about as long as asked. */
static bool calibrate(const bench_job *j, worker *w, int64_t *steps, sid2_error *err)
{
    double seconds;
    int64_t whole = w->whole;
    if (!time_steps(w, whole, &seconds, err)) return false;
    *steps = whole * (int64_t)fmin(fmax(1, j->seconds / seconds / (double)whole), 1e6);
    return true;
}

static bool time_rounds(const bench_job *j, worker *side, int count, int64_t *steps,
                        double (*times)[BENCH_MAX_ROUNDS], sid2_error *err)
{
    for (int s = 0; s < count; s++)
        if (!calibrate(j, &side[s], &steps[s], err)) return false;
    for (int64_t round = 0; round < j->rounds; round++)
        for (int s = 0; s < count; s++)
            if (!time_steps(&side[s], steps[s], &times[s][round], err)) return false;
    return true;
}

bool bench_measure(const bench_job *j, worker *side, int count, double *seconds, sid2_error *err)
{
    int64_t *steps = calloc((size_t)count, sizeof *steps);
    double(*times)[BENCH_MAX_ROUNDS] = calloc((size_t)count, sizeof *times);
    worker_load load = {0};
    bool ok = (steps && times) || sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    ok = ok && worker_load_start(&load, (int)j->load, err) && time_rounds(j, side, count, steps, times, err);
    worker_load_stop(&load);
    for (int s = 0; ok && s < count; s++) seconds[s] = bench_median(times[s], (int)j->rounds);
    free(steps);
    free(times);
    return ok;
}

bool bench_memory(worker *w, double mib[2], sid2_error *err)
{
    char reply[512];
    if (!worker_ask(w, "mem", reply, sizeof reply, err)) return false;
    return sscanf(reply, "%lf %lf", &mib[0], &mib[1]) == 2 ||
           sid2_fail(err, SID2_ERR_FORMAT, "memory was answered by '%.80s'", reply);
}

/* ---- Beside PyTorch ---- */

static void print_row(const char *name, const char *dtype, const char *unit, double ours, double theirs,
                      double ratio)
{
    char a[32], b[32];
    printf("%-36s %-5s %-9s %10s %10s %8.2f\n", name, dtype, unit, sid2_text_rate(ours, a),
           sid2_text_rate(theirs, b), ratio);
}

bool bench_compare(const bench_job *j, const char *name, const char *dtype, const char *unit, json_t *request,
                   sid2_error *err)
{
    worker side[2] = {0};
    double seconds[2], mib[2][2];
    bool ok = bench_start_sid2(j, &side[0], request, err) &&
              bench_start_pytorch(j, &side[1], request, &side[0], err);
    ok = ok && bench_measure(j, side, 2, seconds, err);
    if (ok && unit) ok = bench_memory(&side[0], mib[0], err) && bench_memory(&side[1], mib[1], err);
    if (ok && unit) {
        double ours = (double)j->batch / seconds[0], theirs = (double)j->batch / seconds[1];
        print_row(name, dtype, unit, ours, theirs, ours / theirs);
        print_row("  peak memory", dtype, "MiB", mib[0][0], mib[1][0], mib[0][0] / mib[1][0]);
        print_row("  ... without the program", dtype, "MiB", mib[0][0] - mib[0][1], mib[1][0] - mib[1][1],
                  (mib[0][0] - mib[0][1]) / (mib[1][0] - mib[1][1]));
    } else if (ok) {
        print_row(name, dtype, "steps/s", 1 / seconds[0], 1 / seconds[1], seconds[1] / seconds[0]);
    }
    worker_stop(&side[0]);
    worker_stop(&side[1]);
    json_decref(request);
    return ok;
}

bool bench_wants(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (!at[length] || at[length] == ',')) return true;
    return false;
}

/* Whether `list` names nothing but words of `all`, and at least one. */
static bool is_list_of(const char *list, const char *all)
{
    for (;; list++) {
        char word[16];
        size_t length = strcspn(list, ",");
        snprintf(word, sizeof word, "%.*s", (int)length, list);
        if (!length || length >= sizeof word || !bench_wants(all, word)) return false;
        list += length;
        if (!*list) return true;
    }
}

static bool compare_all(const bench_job *j, sid2_error *err)
{
    static const char *const modes[] = {"train", "sample", "distill"}, *const dtypes[] = {"f32", "bf16"};
    printf("%-36s %-5s %-9s %10s %10s %8s\n", "", "", "", "sid2", "PyTorch", "ratio");
    bool ok = true;
    for (int m = 0; m < 3; m++) {
        for (int d = 0; d < 2 && ok; d++) {
            char name[64];
            snprintf(name, sizeof name, "%s, batch %lld", modes[m], (long long)j->batch);
            if (bench_wants(j->dtypes, dtypes[d]) && bench_wants(j->rows, modes[m]))
                ok = bench_compare(j, name, dtypes[d], m == 1 ? "evals/s" : "images/s",
                                   bench_request(j, modes[m], dtypes[d]), err);
        }
    }
    for (size_t i = 0; i < OPERATORS && bench_wants(j->rows, "ops"); i++)
        for (int d = 0; d < 2 && ok; d++)
            if (bench_wants(j->dtypes, dtypes[d]))
                ok = bench_compare(j, operators[i].name, dtypes[d], NULL,
                                   request_operator(j, operators[i].fields, dtypes[d]), err);
    bench_job own = *j;
    own.batch = unet_batch(j);
    for (int d = 0; d < 2 && ok && bench_wants(j->rows, "unet"); d++) {
        char name[64];
        snprintf(name, sizeof name, "small U-Net, batch %lld", (long long)own.batch);
        if (bench_wants(j->dtypes, dtypes[d]))
            ok = bench_compare(&own, name, dtypes[d], "images/s", request_unet(j, dtypes[d]), err);
    }
    return ok && bench_judges(j, err);
}

/* ---- Alone ---- */

/* Multiply-adds a second of a large matrix product with its gradient: what the machine gives at best. One of
 * 2048 does not fill a large GPU, and is over before the cost of its launch is small: then a larger one. */
static bool measure_peak(const bench_job *j, const char *dtype, int *side, double *peak, sid2_error *err)
{
    static const int sides[] = {2048, 4096};
    bool ok = true;
    double seconds = 0;
    for (int i = 0; ok && i < 2 && seconds < 2e-3; i++) {
        worker w = {0};
        char fields[80];
        snprintf(fields, sizeof fields, "{\"op\": \"linear\", \"shape\": [%d, %d], \"out\": %d}", sides[i],
                 sides[i], sides[i]);
        json_t *request = request_operator(j, fields, dtype);
        ok = bench_start_sid2(j, &w, request, err) && bench_measure(j, &w, 1, &seconds, err);
        if (ok) *side = sides[i], *peak = 3 * pow(sides[i], 3) / seconds;
        worker_stop(&w);
        json_decref(request);
    }
    return ok;
}

static double number(const json_t *row, size_t i) { return json_number_value(json_array_get(row, i)); }

static int by_time(const void *a, const void *b)
{
    double x = number(*(json_t *const *)a, 2), y = number(*(json_t *const *)b, 2);
    return (x < y) - (x > y);
}

static double whole_seconds(const json_t *profile)
{
    return json_number_value(json_object_get(profile, "seconds"));
}

static int by_whole(const void *a, const void *b)
{
    double x = whole_seconds(*(json_t *const *)a), y = whole_seconds(*(json_t *const *)b);
    return (x > y) - (x < y);
}

json_t *bench_profile(worker *w, int64_t steps, sid2_error *err)
{
    json_t *profile = NULL;
    char *reply = malloc(ANSWER_SIZE), question[64];
    snprintf(question, sizeof question, "profile %lld", (long long)steps);
    if (!reply)
        sid2_fail(err, SID2_ERR_MEMORY, "out of memory");
    else if (worker_ask(w, question, reply, ANSWER_SIZE, err) && !(profile = json_loads(reply, 0, NULL)))
        sid2_fail(err, SID2_ERR_FORMAT, "the profile cannot be read");
    free(reply);
    return profile;
}

/* Starts a worker and asks for a profile every round; the round of median time. */
static json_t *ask_profile(const bench_job *j, json_t *request, double *mib, sid2_error *err)
{
    json_t *rounds[BENCH_MAX_ROUNDS], *profile = NULL;
    worker w = {0};
    int64_t steps;
    int count = 0;
    bool ok = bench_start_sid2(j, &w, request, err) && calibrate(j, &w, &steps, err);
    while (ok && count < j->rounds) {
        ok = (rounds[count] = bench_profile(&w, steps, err)) != NULL;
        count += ok;
    }
    ok = ok && bench_memory(&w, mib, err);
    qsort(rounds, (size_t)count, sizeof rounds[0], by_whole);
    for (int i = 0; i < count; i++)
        if (ok && i == count / 2)
            profile = rounds[i];
        else
            json_decref(rounds[i]);
    worker_stop(&w);
    json_decref(request);
    return profile;
}

/* A line for each operator, the longest first. */
static void print_profile(const json_t *profile, double peak)
{
    double whole = whole_seconds(profile), products = 0, known = 0;
    json_t *nodes = json_object_get(profile, "nodes"), *rows[SID2_OP_COUNT];
    size_t count = json_array_size(nodes);
    if (count > SID2_OP_COUNT) return;
    for (size_t i = 0; i < count; i++) rows[i] = json_array_get(nodes, i);
    qsort(rows, count, sizeof rows[0], by_time);
    for (size_t i = 0; i < count; i++) {
        double seconds = number(rows[i], 2), multiply_adds = number(rows[i], 3);
        printf("  %-20s %6.0f %9.2f %5.1f %%", json_string_value(json_array_get(rows[i], 0)),
               number(rows[i], 1), 1e3 * seconds, 100 * seconds / whole);
        if (multiply_adds > 0)
            printf(" %10.1f %7.1f %%", 2e-9 * multiply_adds / seconds, 100 * multiply_adds / seconds / peak);
        else
            printf(" %10s %9s", "", "");
        printf(" %9.1f\n", 1e-9 * number(rows[i], 4) / seconds);
        products += multiply_adds;
        known += seconds;
    }
    if (known < 0.9995 * whole)
        printf("  %-20s %6s %9.2f %5.1f %%\n", "the rest", "", 1e3 * (whole - known),
               100 * (1 - known / whole));
    printf("  %-20s %6s %9.2f", "whole", "", 1e3 * whole);
    if (products > 0)
        printf(" %7s %10.1f %7.1f %%", "", 2e-9 * products / whole, 100 * products / whole / peak);
    putchar('\n');
}

static bool profile_dtype(const bench_job *j, const char *dtype, sid2_error *err)
{
    static const char *const modes[] = {"train", "sample"}, *const names[] = {"training", "sampling"},
                             *const units[] = {"images", "evaluations"};
    double peak = 0, mib[2];
    int side;
    json_t *profile;
    if (!measure_peak(j, dtype, &side, &peak, err)) return false;
    printf("%s: peak %.0f GFLOP/s (matrix product of %d and its gradients)\n\n", dtype, 2e-9 * peak, side);
    printf("%-22s %6s %9s %7s %10s %9s %9s\n", "", "calls", "ms", "share", "GFLOP/s", "of peak", "GB/s");
    for (int m = 0; m < 2; m++) {
        if (!bench_wants(j->rows, modes[m])) continue;
        if (!(profile = ask_profile(j, bench_request(j, modes[m], dtype), mib, err))) return false;
        printf("%s, %s a batch of %lld: %.4g %s/s, memory %.0f MiB\n", j->preset, names[m],
               (long long)j->batch, (double)j->batch / whole_seconds(profile), units[m], mib[0]);
        print_profile(profile, peak);
        json_decref(profile);
    }
    for (size_t i = 0; i < OPERATORS && bench_wants(j->rows, "ops"); i++) {
        if (!(profile = ask_profile(j, request_operator(j, operators[i].fields, dtype), mib, err)))
            return false;
        printf("%s\n", operators[i].name);
        print_profile(profile, peak);
        json_decref(profile);
    }
    if (bench_wants(j->rows, "unet")) {
        if (!(profile = ask_profile(j, request_unet(j, dtype), mib, err))) return false;
        printf("small U-Net, training a batch of %lld: %.4g images/s, memory %.0f MiB\n",
               (long long)unet_batch(j), (double)unet_batch(j) / whole_seconds(profile), mib[0]);
        print_profile(profile, peak);
        json_decref(profile);
    }
    puts(
        "\nA 3x3 convolution counts as its plain sum, whatever the device makes of it; so it can pass the "
        "peak.\n");
    return true;
}

/* ---- The command ---- */

enum { MOST_THREADS = 1024 }; /* as everywhere */

static bool read_threads(const char *option, const char *list, int counts[BENCH_MAX_COUNTS], int *count,
                         sid2_error *err)
{
    size_t n = 0;
    uint64_t *numbers = parse_ranges(option, list, BENCH_MAX_COUNTS, &n, err);
    bool ok = numbers != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        if (numbers[i] < 1 || numbers[i] > MOST_THREADS)
            ok = sid2_fail(err, SID2_ERR_USAGE, "--%s should be 1 to %d", option, MOST_THREADS);
        else
            counts[(*count)++] = (int)numbers[i];
    }
    free(numbers);
    return ok;
}

/* How many threads: as named; else, to see what more give, 1, 2, 4, ... and all; else all. */
static bool choose_threads(bench_job *j, sid2_error *err)
{
    j->cores = sid2_cpu_host_threads();
    if (!j->threads) {
        for (int n = 1; j->scaling && n < j->cores && j->count + 1 < BENCH_MAX_COUNTS; n *= 2)
            j->counts[j->count++] = n;
        j->counts[j->count++] = j->cores;
    } else if (!read_threads("threads", j->threads, j->counts, &j->count, err)) {
        return false;
    }
    if (j->predict && !read_threads("predict", j->predict, j->predicted, &j->predicted_count, err))
        return false;
    if (j->count > 1 && !j->scaling)
        return sid2_fail(err, SID2_ERR_USAGE, "--threads takes several numbers only with --scaling");
    j->on.threads = j->counts[0];
    return true;
}

sid2_config *bench_config(const bench_job *j, const char *preset, sid2_error *err)
{
    sid2_config *config = sid2_config_create();
    if (!config) return sid2_fail(err, SID2_ERR_MEMORY, "out of memory"), NULL;
    if (sid2_config_preset(config, preset, err) && options_apply(config, &j->set, err) &&
        sid2_config_check(config, err))
        return config;
    sid2_config_destroy(config);
    return NULL;
}

static bool prepare(bench_job *j, sid2_error *err)
{
    ssize_t length = readlink("/proc/self/exe", j->program, sizeof j->program - 1);
    if (length <= 0) return sid2_fail(err, SID2_ERR_IO, "cannot find the program's own file under /proc");
    j->program[length] = 0;
    *strrchr(j->program, '/') = 0;
    if (!sid2_path(j->script, err, "%s/../tests/bench_%s.py", j->program, j->latent ? "latent" : "pytorch"))
        return false;
    strcat(j->program, "/sid2");
    if ((j->against || j->latent) && access(j->script, R_OK))
        return sid2_fail(err, SID2_ERR_IO, "%s is missing: run sid2 from its build folder in the source tree",
                         j->script);
    if (!choose_threads(j, err)) return false;
    if (j->latent) return true;
    if (!(j->config = bench_config(j, j->preset, err))) return false;
    if (!j->batch) j->batch = config_int(j->config, "train.batch");
    return true;
}

int command_bench(int argc, char **argv)
{
    static const char usual_rows[] = "train,sample,ops",
                      known_rows[] = "train,sample,distill,ops,unet,inception,i3d",
                      latent_rows[] = "count,train,sample,encode,decode";
    bench_job j = {.on.id = "auto",
                   .python = "python3",
                   .dtypes = "f32,bf16",
                   .rounds = 5,
                   .sockets = 1,
                   .bandwidth = 200,
                   .seconds = 1};
    const option_row rows[] = {
        {OPTION_TEXT, "against", "pytorch", &j.against,
         "compare with PyTorch: same model, batch and threads, in turn, medians", NULL},
        {OPTION_TEXT, "python", "PATH", &j.python, "an interpreter with PyTorch (python3)", NULL},
        {OPTION_FLAG, "compile", NULL, &j.compile, "PyTorch with torch.compile", NULL},
        {OPTION_TEXT, "preset", "NAME", &j.preset,
         "the model (fashion-mnist; with --latent all of ImageNet from 256 on)", NULL},
        {OPTION_INT, "batch", "N", &j.batch, "images a step (the preset's train.batch; with --latent 1)",
         NULL},
        {OPTION_TEXT, "dtype", "LIST", &j.dtypes, "f32, bf16 or both (f32,bf16)", NULL},
        {OPTION_TEXT, "rows", "LIST", &j.rows,
         "what to measure: train, sample, ops (train,sample,ops), or unet, a small convolutional U-Net's "
         "training step; with --against also distill, and inception and i3d, the networks of FID and FVD; "
         "with --latent of count, train, sample, encode, decode (all)",
         NULL},
        {OPTION_INT, "rounds", "N", &j.rounds, "measurements of each (5)", NULL},
        {OPTION_REAL, "seconds", "S", &j.seconds, "length of a measurement (1)", NULL},
        {OPTION_FLAG, "scaling", NULL, &j.scaling,
         "training and sampling with 1, 2, 4, ... threads, up to the cores there are; with --against beside "
         "PyTorch, with --compile also beside torch.compile",
         NULL},
        {OPTION_FLAG, "exchange", NULL, &j.exchange,
         "by several ranks, mpirun -n 2 sid2 bench --exchange: sums over them, exact and the library's, and "
         "training by ranks "
         "beside one process with all their threads",
         NULL},
        {OPTION_TEXT, "threads", "LIST", &j.threads,
         "CPU threads: one number (all the process may use), with --scaling several, such as 1,2,8", NULL},
        {OPTION_TEXT, "predict", "LIST", &j.predict,
         "with --scaling, in place of measuring: training on so many threads, such as 8,64,128, from one "
         "core's "
         "time, counted bytes and assumed rates",
         NULL},
        {OPTION_INT, "sockets", "N", &j.sockets, "processors of the predicted machine (1)", NULL},
        {OPTION_REAL, "bandwidth", "GB/S", &j.bandwidth, "memory of each of them, read and written (200)",
         NULL},
        {OPTION_FLAG, "latent", NULL, &j.latent,
         "operations, bytes, planned memory and measured time of an image beside latent diffusion: DiT-XL/2 "
         "with its "
         "autoencoder, in PyTorch",
         NULL},
        {OPTION_INT, "load", "N", &j.load, "busy processes beside whatever is measured (0)", NULL},
        OPTION_DEVICE(&j.on.id),
        OPTION_DETERMINISTIC(&j.on.deterministic),
        OPTION_TF32(&j.on.tf32),
        OPTION_FP8(&j.on.fp8),
        OPTION_SET_KEY(&j.set),
        {OPTION_FLAG, "serve", NULL, &j.serve, "be one side of a comparison, on standard input and output",
         NULL},
    };
    int code = options_parse(&(option_table){"bench",
                                             "Share of peak by operator, speed and memory beside PyTorch, or "
                                             "by threads; cost beside latent diffusion",
                                             NULL, rows, sizeof rows / sizeof rows[0]},
                             argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (j.serve) return worker_serve();
    if (j.against && strcmp(j.against, "pytorch") != 0)
        return report_usage("bench", "--against '%s' should be pytorch", j.against);
    if (j.rounds < 1 || j.rounds > BENCH_MAX_ROUNDS)
        return report_usage("bench", "--rounds should be 1 to %d", BENCH_MAX_ROUNDS);
    if (j.compile && !j.against)
        return report_usage("bench", "--compile is for PyTorch's side: give --against pytorch too");
    const char *all_rows = j.latent ? latent_rows : usual_rows;
    bool every = !j.rows;
    if (every) j.rows = all_rows;
    if (!j.latent) all_rows = known_rows;
    if (!is_list_of(j.rows, all_rows))
        return report_usage("bench", "--rows '%s' should be of %s", j.rows, all_rows);
    bool beside =
        bench_wants(j.rows, "distill") || bench_wants(j.rows, "inception") || bench_wants(j.rows, "i3d");
    if (beside && (!j.against || j.scaling))
        return report_usage("bench",
                            "the rows distill, inception and i3d go with --against, and without --scaling");
    if (!is_list_of(j.dtypes, "f32,bf16"))
        return report_usage("bench", "--dtype '%s' should be f32, bf16 or f32,bf16", j.dtypes);
    if (j.load > WORKER_MAX_LOAD) return report_usage("bench", "--load is at most %d", WORKER_MAX_LOAD);
    if (j.scaling && bench_wants(j.rows, "ops") && !every)
        return report_usage("bench", "--scaling is of the rows train and sample");
    if (j.predict && (!j.scaling || j.against || j.threads))
        return report_usage("bench", "--predict goes with --scaling, and without --against and --threads");
    if (j.predict &&
        (!bench_wants(j.rows, "train") || (strcmp(j.on.id, "auto") != 0 && strcmp(j.on.id, "cpu") != 0)))
        return report_usage("bench", "--predict is of training on the CPU: --rows train, --device cpu");
    if (j.sockets < 1 || j.sockets > 8 || !(j.bandwidth >= 1))
        return report_usage("bench", "--sockets should be 1 to 8, --bandwidth 1 or more");
    if (j.exchange && (j.scaling || j.against))
        return report_usage("bench", "--exchange goes without --scaling and --against");
    if (j.latent && (j.against || j.scaling || j.load || j.exchange))
        return report_usage("bench", "--latent goes without --against, --scaling, --load and --exchange");
    j.own_batch = j.batch;
    if (j.exchange && !j.threads) j.threads = "1"; /* each rank */
    if (j.latent && !j.batch) j.batch = 1;
    if (!j.latent && !j.preset) j.preset = "fashion-mnist";
    sid2_error err = {0};
    bool ok = prepare(&j, &err);
    if (ok && j.exchange) {
        int result = bench_exchange(&j);
        sid2_config_destroy(j.config);
        return result;
    }
    if (ok && j.latent)
        ok = bench_latent(&j, &err);
    else if (ok && j.predict)
        ok = bench_predict(&j, &err);
    else if (ok && j.scaling)
        ok = bench_scaling(&j, &err);
    else if (ok && j.against)
        ok = compare_all(&j, &err);
    else if (ok)
        ok = (!bench_wants(j.dtypes, "f32") || profile_dtype(&j, "f32", &err)) &&
             (!bench_wants(j.dtypes, "bf16") || profile_dtype(&j, "bf16", &err));
    sid2_config_destroy(j.config);
    return ok ? 0 : report_error("bench", &err);
}
