/* sid2 check: every operator of a device against the float64 reference, on random shapes and numbers. The
 * tolerances, and what else is looked at, are in core/opcheck.h. */
#include "cli.h"

#include "compile.h"
#include "file.h"
#include "json.h"
#include "opcheck.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>

enum { TYPES = 3, MOST_CASES = 1000000 };
static const sid2_dtype types[TYPES] = {SID2_F32, SID2_BF16, SID2_F16};

/* One operator in one type. */
typedef struct finding {
    enum { LEFT_OUT, PASSED, FAILED, NOT_THERE } state;
    sid2_opcheck_result result;
    char failure[300]; /* why it did not pass, in words */
} finding;

typedef struct job {
    const char *ops, *dtypes, *json_path;
    device_choice on;
    int64_t cases, seed;

    sid2_device *device, *reference;
    sid2_device_info info;
    bool op_wanted[SID2_OP_COUNT], type_wanted[TYPES];
    finding found[SID2_OP_COUNT][TYPES];
    int checks, failures;
    double seconds;
    char system[300];
    sid2_atomic_file file; /* the report, where it is not printed */
    bool compile_only;
} job;

/* ---- What is asked for ---- */

static bool prints_report(const job *j) { return j->json_path && strcmp(j->json_path, "-") == 0; }

/* Calls `take` with each word of a list such as "f32,bf16". */
static bool each_word(const char *list, bool (*take)(job *, const char *word, sid2_error *), job *j,
                      sid2_error *err)
{
    for (const char *at = list;; at++) {
        char word[40];
        size_t length = strcspn(at, ",");
        snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), at);
        if (!take(j, word, err)) return false;
        at += length;
        if (!*at) return true;
    }
}

static bool want_op(job *j, const char *word, sid2_error *err)
{
    for (int op = 0; op < SID2_OP_COUNT; op++)
        if (strcmp(word, sid2_op_name((sid2_op)op)) == 0) return j->op_wanted[op] = true;
    return sid2_fail(err, SID2_ERR_USAGE, "--op: there is no operator '%s'; sid2 help --operators lists them",
                     word);
}

static bool has_type(const sid2_device_info *info, sid2_dtype type)
{
    return type == SID2_F32 || (type == SID2_BF16 ? info->bf16 : info->f16);
}

static bool want_type(job *j, const char *word, sid2_error *err)
{
    for (int t = 0; t < TYPES; t++) {
        if (strcmp(word, sid2_dtype_name(types[t])) != 0) continue;
        if (has_type(&j->info, types[t])) return j->type_wanted[t] = true;
        return sid2_fail(err, SID2_ERR_USAGE, "--dtype: %s does not compute in %s", j->info.id, word);
    }
    return sid2_fail(err, SID2_ERR_USAGE, "--dtype '%s' should be of f32, bf16, f16", word);
}

static bool prepare(job *j, sid2_error *err)
{
    j->device = open_device(&j->on, err);
    if (!j->device) return false;
    j->info = *sid2_device_describe(j->device);
    j->reference = sid2_device_open("reference", NULL, err);
    if (!j->reference) return false;
    for (int op = 0; op < SID2_OP_COUNT; op++) j->op_wanted[op] = !j->ops;
    for (int t = 0; t < TYPES; t++) j->type_wanted[t] = !j->dtypes && has_type(&j->info, types[t]);
    struct utsname system;
    if (uname(&system) == 0)
        snprintf(j->system, sizeof j->system, "%.80s %.120s %.80s", system.sysname, system.release,
                 system.machine);
    return (!j->ops || each_word(j->ops, want_op, j, err)) &&
           (!j->dtypes || each_word(j->dtypes, want_type, j, err)) &&
           (!j->json_path || prints_report(j) || sid2_output_open(&j->file, j->json_path, err));
}

/* ---- Checking ---- */

/* A device that failed is opened again, so that one bad operator does not hide the others. False where it is
 * gone for good. */
static bool open_again(job *j, sid2_error *err)
{
    device_choice same = j->on;
    same.id = j->info.id;
    sid2_device_close(j->device);
    j->device = open_device(&same, err);
    return j->device != NULL;
}

static bool check(job *j, sid2_op op, int t, sid2_error *err)
{
    finding *f = &j->found[op][t];
    f->state = FAILED;
    if (!sid2_device_supports(j->device, op, types[t])) {
        f->state = NOT_THERE;
    } else {
        sid2_error why = {0};
        bool ran = sid2_opcheck_run(j->device, j->reference, op, types[t], (uint64_t)j->seed, (int)j->cases,
                                    &f->result, &why);
        if (ran && !f->result.failures) f->state = PASSED;
        snprintf(f->failure, sizeof f->failure, "%.299s", ran ? f->result.failure : why.message);
        if (!ran && (why.code == SID2_ERR_DEVICE || why.code == SID2_ERR_LOST) && !open_again(j, err))
            return false;
    }
    return true;
}

static void print_head(const job *j)
{
    printf("device    %s: %s\n", j->info.id, j->info.name);
    if (j->info.driver[0]) printf("driver    %s\n", j->info.driver);
    if (j->info.detail[0]) printf("          %s\n", j->info.detail);
    printf("sid2      " SID2_VERSION " (" SID2_BUILD "), %s\n", j->system);
    printf("checks    %" PRId64 " random cases each, seed %" PRId64
           "; the largest error as a share of what is allowed\n\n%-20s",
           j->cases, j->seed, "operator");
    for (int t = 0; t < TYPES; t++)
        if (j->type_wanted[t]) printf("%9s", sid2_dtype_name(types[t]));
    putchar('\n');
}

static void print_row(const job *j, sid2_op op)
{
    bool ok = true, there = false;
    printf("%-20s", sid2_op_name(op));
    for (int t = 0; t < TYPES; t++) {
        const finding *f = &j->found[op][t];
        if (!j->type_wanted[t]) continue;
        f->state == PASSED ? printf("%9.3f", f->result.worst)
                           : printf("%9s", f->state == NOT_THERE ? "-" : "FAIL");
        ok = ok && f->state != FAILED;
        there = there || f->state != NOT_THERE;
    }
    puts(!ok ? "   FAIL" : there ? "   pass" : "   not there");
}

static void print_failures(const job *j)
{
    for (int op = 0; op < SID2_OP_COUNT; op++)
        for (int t = 0; t < TYPES; t++) {
            const finding *f = &j->found[op][t];
            if (f->state != FAILED) continue;
            printf("\nFAIL %s %s", sid2_op_name((sid2_op)op), sid2_dtype_name(types[t]));
            if (f->result.failures)
                printf(", %d of %d cases, off by up to %.3g times what is allowed; the first:",
                       f->result.failures, f->result.cases, f->result.worst);
            printf("\n     %s\n     again: sid2 check --device %s --op %s --dtype %s --cases %" PRId64
                   " --seed %" PRId64 "\n",
                   f->failure, j->info.id, sid2_op_name((sid2_op)op), sid2_dtype_name(types[t]), j->cases,
                   j->seed);
        }
}

static bool check_all(job *j, bool table, sid2_error *err)
{
    int total = 0, done = 0;
    for (int op = 0; op < SID2_OP_COUNT; op++)
        for (int t = 0; t < TYPES; t++) total += j->op_wanted[op] && j->type_wanted[t];
    progress bar;
    progress_begin(&bar);
    bar.last = bar.began; /* no line where it is over in a moment */
    if (table) print_head(j);
    for (int op = 0; op < SID2_OP_COUNT; op++) {
        if (!j->op_wanted[op]) continue;
        for (int t = 0; t < TYPES; t++) {
            if (!j->type_wanted[t]) continue;
            progress_show(&bar, (double)done / total, "%s %s", sid2_op_name((sid2_op)op),
                          sid2_dtype_name(types[t]));
            if (interrupted()) {
                progress_clear(&bar);
                return sid2_fail(err, SID2_ERR_CANCELLED, "stopped");
            }
            bool going_on = check(j, (sid2_op)op, t, err);
            done++;
            j->checks += j->found[op][t].state != NOT_THERE;
            j->failures += j->found[op][t].state == FAILED;
            if (going_on) continue;
            progress_clear(&bar);
            if (table) print_failures(j);
            return false;
        }
        progress_clear(&bar);
        if (table) print_row(j, (sid2_op)op);
    }
    j->seconds = sid2_clock() - bar.began;
    if (!table) return true;
    char time[32];
    print_failures(j);
    if (!j->checks)
        printf("\n%s has nothing of this to check\n", j->info.id);
    else if (!j->failures)
        printf("\nall %d checks passed in %s\n", j->checks, sid2_text_time(j->seconds, time));
    else if (!j->json_path)
        printf("\nFor a bug report: sid2 check --device %s --json report.json\n", j->info.id);
    return true;
}

/* ---- The report ---- */

static json_t *json_finding(sid2_op op, sid2_dtype type, const finding *f)
{
    json_t *row =
        json_pack("{s:s, s:s, s:b, s:b, s:i, s:i, s:o}", "operator", sid2_op_name(op), "type",
                  sid2_dtype_name(type), "there", f->state != NOT_THERE, "pass", f->state == PASSED, "cases",
                  f->result.cases, "failures", f->result.failures, "worst", sid2_json_real(f->result.worst));
    if (!row || f->state != FAILED || !json_object_set_new(row, "failure", json_string(f->failure)))
        return row;
    json_decref(row);
    return NULL;
}

static json_t *json_report(const job *j)
{
    json_t *rows = json_array(), *names = json_array(), *all = NULL;
    bool ok = true;
    for (int op = 0; ok && op < SID2_OP_COUNT; op++)
        for (int t = 0; ok && t < TYPES; t++)
            if (j->found[op][t].state != LEFT_OUT)
                ok = !json_array_append_new(rows, json_finding((sid2_op)op, types[t], &j->found[op][t]));
    for (int t = 0; ok && t < TYPES; t++)
        if (has_type(&j->info, types[t]))
            ok = !json_array_append_new(names, json_string(sid2_dtype_name(types[t])));
    if (ok)
        all =
            json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:I, s:O}, s:I, s:I, s:i, s:i, s:b, s:f, s:O}",
                      "sid2", SID2_VERSION, "build", SID2_BUILD, "system", j->system, "device", "id",
                      j->info.id, "name", j->info.name, "driver", j->info.driver, "variants", j->info.detail,
                      "memory_bytes", (json_int_t)j->info.memory, "types", names, "seed", (json_int_t)j->seed,
                      "cases", (json_int_t)j->cases, "checks", j->checks, "failures", j->failures, "pass",
                      j->failures == 0, "seconds", j->seconds, "rows", rows);
    json_decref(rows);
    json_decref(names);
    return all;
}

static bool write_report(job *j, sid2_error *err)
{
    json_t *report = json_report(j);
    FILE *stream = prints_report(j) ? stdout : j->file.stream;
    bool ok = report && json_dumpf(report, stream, JSON_INDENT(2) | JSON_ENSURE_ASCII) == 0 &&
              fputc('\n', stream) != EOF;
    json_decref(report);
    if (ok && stream != stdout) return sid2_atomic_commit(&j->file, err);
    return ok || sid2_fail(err, SID2_ERR_IO, "cannot write the report to %s", j->json_path);
}

int command_check(int argc, char **argv)
{
    job j = {.cases = 10, .seed = 1};
    const option_row rows[] = {
        OPTION_DEVICE(&j.on.id),
        {OPTION_INT, "cases", "N", &j.cases,
         "random cases of each operator and type; 1000 is the full proof (10)", NULL},
        {OPTION_TEXT, "op", "LIST", &j.ops, "only these operators, such as conv2d,linear (all)", NULL},
        {OPTION_TEXT, "dtype", "LIST", &j.dtypes,
         "only these types: f32, bf16, f16 (all that the device has)", NULL},
        {OPTION_INT, "seed", "N", &j.seed, "of shapes and numbers; the same seed draws the same cases (1)",
         NULL},
        {OPTION_TEXT, "json", "FILE", &j.json_path,
         "write a report with everything about device and results, to attach to a bug report; - prints it "
         "instead of the table",
         NULL},
        {OPTION_FLAG, "compile-only", NULL, &j.compile_only,
         "execute nothing, check nothing: compile the shaders of these operators and of all presets for a "
         "Vulkan device "
         "and tell what its compiler made of them, also for one that cannot execute",
         NULL},
        OPTION_THREADS(&j.on.threads),
        OPTION_DETERMINISTIC(&j.on.deterministic),
    };
    int code = options_parse(
        &(option_table){"check", "Whether a device computes right: every operator against float64",
                        "Exit code 0: all passed, 1: something did not, 2: the request was wrong.", rows,
                        sizeof rows / sizeof rows[0]},
        argc, argv);
    if (code != OPTIONS_RUN) return code;
    if (j.cases < 1 || j.cases > MOST_CASES)
        return report_usage("check", "--cases should be 1 to %d", MOST_CASES);
    sid2_error err = {0};
    interrupt_install();
    if (j.compile_only) {
        if (j.ops || j.dtypes) return report_usage("check", "--compile-only is of all operators and types");
        const compile_job compile = {
            .device = j.on.id, .cases = (int)j.cases, .seed = (uint64_t)j.seed, .json_path = j.json_path};
        return compile_and_tell(&compile, &err) ? 0 : report_error("check", &err);
    }
    bool ready = prepare(&j, &err), ok = ready && check_all(&j, !prints_report(&j), &err);
    if (ready && j.json_path && err.code != SID2_ERR_CANCELLED) ok = write_report(&j, ok ? &err : NULL) && ok;
    if (ok && j.failures)
        ok = sid2_fail(&err, SID2_ERR_DEVICE, "%d of %d checks failed on %s (%.80s)", j.failures, j.checks,
                       j.info.id, j.info.name);
    sid2_device_close(j.device);
    sid2_device_close(j.reference);
    sid2_atomic_discard(&j.file);
    return ok ? 0 : report_error("check", &err);
}
