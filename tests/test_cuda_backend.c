/* The CUDA backend without a GPU: devices, transfers, programs, matrix products, convolutions and attention
 * over a CUDA runtime, a cublasLt and a cuDNN that run on the host (fake_cuda.h, fake_cublaslt.c,
 * fake_cudnn.c), with the reference's kernels as own kernels. */
#include "nan_support.h"

#include "../cuda/cuda_backend.h"
#include "../cuda/fp8.h"
#include "../cuda/runtime.h"
#include "fake_cuda.h"
#include "file.h"
#include "keep.h"
#include "opcheck.h"
#include "program_support.h"
#include "sampling.h"

static const sid2_backend *const all[] = {&sid2_backend_cpu, &sid2_backend_cuda};

static sid2_device *open_on(const char *id, sid2_device_options options)
{
    sid2_device *device = sid2_backends_open(all, 2, id, &options, &err);
    must(device);
    return device;
}

static sid2_device *open_cuda(void) { return open_on("cuda:0", (sid2_device_options){0}); }

/* Every test starts with a fresh GPU and leaves nothing on it. */
static int setup(void **state)
{
    (void)state;
    fake = (fake_cuda){.devices = 1, .capability = 90, .memory = (size_t)1 << 40, .fail_after = -1};
    unsetenv("SID2_CUDA_LAUNCH");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(fake.allocations, 0);
    assert_int_equal(fake.allocated, 0);
    assert_int_equal(fake.descriptors, 0);
    return 0;
}

/* ---- Devices ---- */

static void devices_describe_themselves(void **state)
{
    (void)state;
    sid2_device *device = open_on("auto", (sid2_device_options){.deterministic = true});
    const sid2_device_info *info = sid2_device_describe(device);
    assert_string_equal(info->id, "cuda:0");
    assert_string_equal(info->name, "Fake GPU");
    assert_non_null(strstr(info->driver, "CUDA driver 1"));
    assert_non_null(strstr(info->driver, "fake cublasLt, no cuDNN"));
    assert_non_null(strstr(info->detail, "compute capability 9.0"));
    assert_non_null(strstr(info->detail, "deterministic"));
    assert_true(info->bf16 && info->f16 && info->memory == fake.memory);
    assert_int_equal(info->fast, SID2_BF16); /* what "auto" trains and samples in */
    assert_int_equal(sid2_device_alignment(device), 256);
    assert_true(sid2_device_supports(device, SID2_OP_adam, SID2_BF16));
    assert_false(sid2_device_supports(device, SID2_OP_adam, SID2_F64));
    sid2_device_close(device);
}

/* What `missing` says, all lines. */
static const char *missing_text(void)
{
    static char text[2000];
    char line[200];
    text[0] = 0;
    for (int i = 0; sid2_backend_cuda.missing(i, line); i++) strcat(strcat(text, line), "\n");
    return text;
}

static void what_is_missing_is_named(void **state)
{
    (void)state;
    assert_string_equal(missing_text(),
                        "CUDA: libcudnn.so.9 not found: own convolutions and attention, much "
                        "slower; see SID2_CUDA_LIBRARIES\n");
    fake.capability = 75;
    assert_non_null(strstr(missing_text(), "Fake GPU has compute capability 7.5, sid2 needs 8.0\n"));
    sid2_device *device = open_on("auto", (sid2_device_options){0});
    assert_string_equal(sid2_device_describe(device)->id, "cpu");
    sid2_device_close(device);

    fake.devices = 0;
    assert_int_equal(sid2_backend_cuda.count(), 0);
    assert_int_equal(strncmp(missing_text(), "CUDA: ", 6), 0);
    assert_non_null(strstr(missing_text(), "driver"));
    assert_null(sid2_backends_open(all, 2, "cuda:0", NULL, &err));
    assert_int_equal(err.code, SID2_ERR_DEVICE);
    assert_non_null(strstr(err.message, "no device 'cuda:0'. CUDA: "));
    assert_null(sid2_backends_open(all, 2, "abacus", NULL, &err));
    assert_int_equal(err.code, SID2_ERR_USAGE);
}

static void devices_without_code_are_not_listed(void **state)
{
    (void)state;
    static const struct {
        const char *code;
        int with[4], without[4];
    } cases[] = {{"80-real,90-real", {80, 86, 89, 90}, {75, 100, 103, 120}},
                 {"80-real,90", {80, 89, 100, 120}, {75}},
                 {"90", {90, 100, 120}, {80, 89}},
                 {"90-virtual", {90, 120}, {89}},
                 {"90a-real,100f-real", {90, 100, 103}, {80, 99, 120}},
                 {"all-major", {80, 75, 120}, {0}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int k = 0; k < 4; k++) {
            if (cases[i].with[k]) assert_true(sid2_cuda_has_code(cases[i].code, cases[i].with[k]));
            if (cases[i].without[k]) assert_false(sid2_cuda_has_code(cases[i].code, cases[i].without[k]));
        }
    fake.capability = 120; /* the build of this test: 80-real,90-real */
    assert_non_null(strstr(missing_text(),
                           "Fake GPU has compute capability 12.0, this build has code for "
                           "80-real,90-real: SID2_CUDA_ARCHITECTURES\n"));
    sid2_device *device = open_on("auto", (sid2_device_options){0});
    assert_string_equal(sid2_device_describe(device)->id, "cpu");
    sid2_device_close(device);
    assert_null(sid2_backends_open(all, 2, "cuda:0", NULL, &err));
    assert_int_equal(err.code, SID2_ERR_DEVICE);
    assert_non_null(strstr(err.message, "no device 'cuda:0'. CUDA: Fake GPU has compute capability 12.0"));
}

static void memory_that_is_not_there_is_counted(void **state)
{
    (void)state;
    fake.memory = (size_t)1 << 30;
    sid2_device *device = open_cuda();
    assert_null(sid2_buffer_create(device, (size_t)3 << 30, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
    assert_non_null(strstr(err.message, "3.00 GiB"));
    assert_non_null(strstr(err.message, "of 1.00 GiB are free"));
    sid2_device_close(device);
    fake.memory = 1 << 20;
    assert_null(sid2_backends_open(all, 2, "cuda:0", NULL, &err));
    assert_int_equal(err.code, SID2_ERR_MEMORY);
}

/* ---- Transfers ---- */

static uint32_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Random uploads and downloads, some late, some over more than the ring, beside a copy on the host. */
static void transfers_keep_their_order(void **state)
{
    (void)state;
    enum { BYTES = 70 << 20, LATE = 40 };
    sid2_device *device = open_cuda();
    sid2_buffer *buffer = sid2_buffer_create(device, BYTES, &err);
    must(buffer);
    uint8_t *mirror = calloc(BYTES, 1), *block = malloc(BYTES);
    uint8_t *late[LATE], *expected[LATE];
    size_t length[LATE];
    int late_count = 0;
    uint64_t seed = 7;
    for (int round = 0; round < 400; round++) {
        size_t bytes = round % 100 == 50 ? BYTES : 1 + next(&seed) % (next(&seed) % 9 ? 40000 : 12 << 20);
        size_t offset = next(&seed) % (BYTES - bytes + 1);
        uint32_t what = next(&seed) % 8;
        if (what < 5) {
            for (size_t i = 0; i < bytes; i++) block[i] = (uint8_t)(i + i / 255 + (size_t)round * 7);
            must(sid2_buffer_upload(buffer, offset, block, bytes, &err));
            memcpy(mirror + offset, block, bytes);
            memset(block, 0xee, bytes); /* the caller's again */
        } else if (what < 7 && late_count < LATE) {
            length[late_count] = bytes = bytes % 100000;
            late[late_count] = malloc(bytes + 1);
            expected[late_count] = malloc(bytes + 1);
            memcpy(expected[late_count], mirror + offset, bytes);
            must(sid2_buffer_download_later(buffer, offset, late[late_count], bytes, &err));
            late_count++;
        } else {
            must(sid2_buffer_download(buffer, offset, block, bytes, &err));
            assert_memory_equal(block, mirror + offset, bytes);
            for (int i = 0; i < late_count; i++) {
                assert_memory_equal(late[i], expected[i], length[i]);
                free(late[i]);
                free(expected[i]);
            }
            late_count = 0;
        }
    }
    must(sid2_buffer_download(buffer, 0, block, BYTES, &err));
    assert_memory_equal(block, mirror, BYTES);
    for (int i = 0; i < late_count; i++) {
        assert_memory_equal(late[i], expected[i], length[i]);
        free(late[i]);
        free(expected[i]);
    }
    free(mirror);
    free(block);
    sid2_buffer_destroy(buffer);
    sid2_device_close(device);
}

/* ---- Operators ---- */

static void check_op(sid2_device *device, sid2_device *reference, sid2_op op, sid2_dtype dtype, int cases)
{
    sid2_opcheck_result result;
    must(sid2_opcheck_run(device, reference, op, dtype, 5, cases, &result, &err));
    if (result.failures)
        fail_msg("%s %s: %d of %d: %s", sid2_op_name(op), sid2_dtype_name(dtype), result.failures,
                 result.cases, result.failure);
}

static void products_agree_with_the_reference(void **state)
{
    (void)state;
    static const sid2_op ops[] = {SID2_OP_linear, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad,
                                  SID2_OP_conv2d, SID2_OP_conv2d_dgrad, SID2_OP_conv2d_wgrad};
    static const sid2_dtype dtypes[] = {SID2_F32, SID2_BF16, SID2_F16};
    sid2_device *reference = open_on("reference", (sid2_device_options){0});
    for (int deterministic = 0; deterministic < 2; deterministic++) {
        sid2_device *device =
            open_on("cuda:0", (sid2_device_options){.deterministic = deterministic, .tf32 = deterministic});
        for (int o = 0; o < 6; o++)
            for (int d = 0; d < 3; d++) {
                int before = fake.products;
                check_op(device, reference, ops[o], dtypes[d], 40);
                assert_in_range(fake.products - before, o < 3 ? 30 : 3, 40);
            }
        assert_int_equal(fake.bias_gradients > 0, !deterministic);
        fake.bias_gradients = 0;
        sid2_device_close(device);
    }
    sid2_device_close(reference);
}

/* What cuDNN is asked for is the operator; and engines whose notes or workspace forbid them are left alone. */
static void convolutions_and_attention_agree_with_the_reference(void **state)
{
    (void)state;
#if !SID2_HAVE_CUDNN
    skip();
#endif
    enum { CASES = 60 };
    static const sid2_op ops[] = {SID2_OP_conv2d, SID2_OP_conv2d_dgrad, SID2_OP_conv2d_wgrad,
                                  SID2_OP_attention, SID2_OP_attention_grad};
    static const sid2_dtype dtypes[] = {SID2_F32, SID2_BF16, SID2_F16};
    fake.cudnn = 91900;
    sid2_device *reference = open_on("reference", (sid2_device_options){0});
    for (int how = 0; how < 4; how++) {
        bool deterministic = how % 2, tf32 = how / 2;
        sid2_device *device =
            open_on("cuda:0", (sid2_device_options){.deterministic = deterministic, .tf32 = tf32});
        assert_non_null(strstr(sid2_device_describe(device)->driver, "fake cuDNN"));
        assert_true(sid2_device_describe(device)->rounds_conv_wgrad);
        for (int o = 0; o < 5; o++)
            for (int d = 0; d < 3; d++) {
                memset(fake.engines, 0, sizeof fake.engines);
                check_op(device, reference, ops[o], dtypes[d], CASES);
                int runs = 0;
                for (int e = 0; e < 5; e++) runs += fake.engines[e];
                if (o < 3) assert_int_equal(runs, CASES);
                if (o >= 3) assert_in_range(runs, d ? CASES / 4 : 0, d ? CASES : 0);
                assert_int_equal(fake.engines[0] + fake.engines[2], 0); /* loses digits; wants too much */
                if (deterministic) assert_int_equal(fake.engines[1], 0);
                if (d == 0 && !tf32) assert_int_equal(fake.engines[3], 0);
                if (d && !deterministic) assert_true(fake.engines[1] > 0);
                if (d) assert_true(fake.engines[3] > 0 && fake.engines[4] > 0);
            }
        sid2_device_close(device);
    }
    fake.capability = 80; /* where no digit of a weight gradient is lost */
    sid2_device *ampere = open_cuda();
    assert_false(sid2_device_describe(ampere)->rounds_conv_wgrad);
    for (int d = 1; d < 3; d++) check_op(ampere, reference, SID2_OP_conv2d_wgrad, dtypes[d], CASES);
    sid2_device_close(ampere);
    fake.capability = 90;
    fake.cudnn = 91000; /* whose attention has a wrong gradient */
    sid2_device *device = open_cuda();
    memset(fake.engines, 0, sizeof fake.engines);
    check_op(device, reference, SID2_OP_attention_grad, SID2_BF16, CASES);
    for (int e = 0; e < 5; e++) assert_int_equal(fake.engines[e], 0);
    sid2_device_close(device);
    sid2_device_close(reference);
}

/* ---- Products in eight bits ---- */

/* Every code comes back; between two neighbours the nearer one, in the middle the even one; too large: the largest. */
static void eight_bits_round_to_the_nearest(void **state)
{
    (void)state;
    static const struct {
        float largest, smallest;
    } formats[] = {[SID2_E4M3] = {448, 0x1p-9f}, [SID2_E5M2] = {57344, 0x1p-16f}};
    for (int f = 0; f < 2; f++) {
        sid2_fp8_format format = (sid2_fp8_format)f;
        int codes = format == SID2_E4M3 ? 0x7f : 0x7c;
        assert_true(sid2_fp8_to_f32((uint8_t)(codes - 1), format) == formats[f].largest);
        assert_true(sid2_fp8_to_f32(1, format) == formats[f].smallest);
        for (int code = 0; code + 1 < codes; code++) {
            float low = sid2_fp8_to_f32((uint8_t)code, format),
                  high = sid2_fp8_to_f32((uint8_t)(code + 1), format);
            float middle = low + (high - low) / 2;
            assert_true(low < high);
            assert_int_equal(sid2_f32_to_fp8(low, format), code);
            assert_int_equal(sid2_f32_to_fp8(-low, format), code | 0x80);
            assert_int_equal(sid2_f32_to_fp8(middle, format), code + code % 2);
            assert_int_equal(sid2_f32_to_fp8(nextafterf(middle, 0), format), code);
            assert_int_equal(sid2_f32_to_fp8(nextafterf(middle, high), format), code + 1);
        }
        assert_int_equal(sid2_f32_to_fp8(1e30f, format), codes - 1);
        assert_int_equal(sid2_f32_to_fp8(-INFINITY, format), 0xff);
        assert_int_equal(sid2_f32_to_fp8(NAN, format) & 0x7f, 0x7f);
        assert_true(isnan(sid2_fp8_to_f32(0x7f, format)));
    }
}

/* What is expected of an operand: its own history, in doubles. */
typedef struct expected_scale {
    double history[SID2_FP8_RUNS], scale;
    int runs;
} expected_scale;

static double largest_of(const float *x, int count)
{
    double largest = 0;
    for (int i = 0; i < count; i++)
        if (isfinite(x[i]) && fabs((double)x[i]) > largest) largest = fabs((double)x[i]);
    return largest;
}

static void choose_scale(expected_scale *s, double limit)
{
    double most = 0;
    for (int i = 0; i < SID2_FP8_RUNS && i < s->runs; i++) most = fmax(most, s->history[i]);
    if (most > 0) s->scale = exp2(floor(log2(limit / most)));
    if (s->scale == 0) s->scale = 1;
}

/* Rounds x in place as the next run should. */
static void expect_rounded(expected_scale *s, float *x, int count, sid2_fp8_format format)
{
    double limit = format == SID2_E4M3 ? 448 : 57344, largest = largest_of(x, count);
    if (!s->runs) s->history[s->runs++] = largest, choose_scale(s, limit), s->runs--;
    double scale = s->scale;
    for (int i = 0; i < count; i++) {
        double scaled = (double)x[i] * scale;
        if (isfinite(x[i])) scaled = fmin(fmax(scaled, -limit), limit);
        x[i] = (float)((double)sid2_fp8_to_f32(sid2_f32_to_fp8((float)scaled, format), format) / scale);
    }
    memmove(s->history + 1, s->history, sizeof s->history - sizeof *s->history);
    s->history[0] = largest;
    if (s->runs < SID2_FP8_RUNS) s->runs++;
    choose_scale(s, limit);
}

typedef struct eight_case {
    int rows, ins, outs;
    bool bias, residual, convolution;
} eight_case;

static float random_real(uint64_t *seed, float size)
{
    return sid2_bf16_to_f32(sid2_f32_to_bf16(size * ((float)next(seed) / (float)(1u << 30) - 1)));
}

static void fill(float *x, int count, float size, uint64_t *seed)
{
    for (int i = 0; i < count; i++) x[i] = random_real(seed, size);
}

static sid2_buffer *bf16_buffer(sid2_device *device, int count)
{
    sid2_buffer *b = sid2_buffer_create(device, (size_t)count * 2, &err);
    must(b);
    return b;
}

static void upload_bf16(sid2_buffer *b, const float *x, int count)
{
    uint16_t *low = malloc((size_t)count * 2);
    for (int i = 0; i < count; i++) low[i] = sid2_f32_to_bf16(x[i]);
    must(sid2_buffer_upload(b, 0, low, (size_t)count * 2, &err));
    free(low);
}

/* y = x w^T (+ bias + residual), dx = dy w, dw += dy^T x, dbias += sum dy, of operands rounded as expected. Returns the
 * largest difference from that, by the size of each result. */
static void check_eight_case(sid2_device *device, const eight_case *c, uint64_t seed)
{
    enum { RUNS_OF_EACH = 20 };
    const int m = c->rows, k = c->ins, n = c->outs;
    sid2_graph *g = sid2_graph_create(SID2_BF16);
    sid2_shape sx = c->convolution ? sid2_shape_of(m / 16, 4, 4, k) : sid2_shape_of(m, k),
               sy = c->convolution ? sid2_shape_of(m / 16, 4, 4, n) : sid2_shape_of(m, n),
               sw = c->convolution ? sid2_shape_of(n, 1, 1, k) : sid2_shape_of(n, k);
    sid2_tensor x = sid2_graph_external(g, "x", SID2_BF16, sx),
                w = sid2_graph_external(g, "w", SID2_BF16, sw),
                dy = sid2_graph_external(g, "dy", SID2_BF16, sy),
                bias = sid2_graph_external(g, "bias", SID2_BF16, sid2_shape_of(n)),
                residual = sid2_graph_external(g, "residual", SID2_BF16, sy),
                dw = sid2_graph_external(g, "dw", SID2_F32, sw),
                dbias = sid2_graph_external(g, "dbias", SID2_F32, sid2_shape_of(n));
    const sid2_op forward = c->convolution ? SID2_OP_conv2d : SID2_OP_linear,
                  dgrad = c->convolution ? SID2_OP_conv2d_dgrad : SID2_OP_linear_dgrad,
                  wgrad = c->convolution ? SID2_OP_conv2d_wgrad : SID2_OP_linear_wgrad;
    sid2_tensor y = sid2_graph_emit(
        g, forward, (sid2_attr){.dtype = c->bias || c->residual ? SID2_BF16 : SID2_F32},
        (sid2_tensor[]){x, w, c->bias ? bias : SID2_NONE, c->residual ? residual : SID2_NONE}, 4, false);
    sid2_graph_export(g, sid2_cast(g, y, SID2_F32), "y");
    sid2_tensor dx = sid2_graph_emit(g, dgrad, (sid2_attr){0}, (sid2_tensor[]){dy, w, SID2_NONE}, 3, false);
    sid2_graph_export(g, sid2_cast(g, dx, SID2_F32), "dx");
    sid2_graph_emit_into(g, wgrad, (sid2_attr){.shape = sw}, (sid2_tensor[]){x, dy}, 2,
                         (sid2_tensor[]){dw, c->bias ? dbias : SID2_NONE}, 2);
    must(sid2_graph_finish(g, &err));
    const int counts[] = {m * k, n * k, m * n, n, m * n};
    static const char *const names[] = {"x", "w", "dy", "bias", "residual"};
    sid2_buffer *b[5], *out[4];
    const int out_counts[] = {m * n, m * k, n * k, n};
    sid2_binding bindings[9];
    for (int i = 0; i < 5; i++) bindings[i] = (sid2_binding){names[i], b[i] = bf16_buffer(device, counts[i])};
    static const char *const outs[] = {"y", "dx", "dw", "dbias"};
    for (int i = 0; i < 4; i++) {
        must(out[i] = sid2_buffer_create(device, (size_t)out_counts[i] * 4, &err));
        bindings[5 + i] = (sid2_binding){outs[i], out[i]};
    }
    sid2_program *program = sid2_program_create(device, g, NULL, bindings, 9, &err);
    must(program);

    expected_scale scales[6] = {0}; /* x and w forward, w and dy, x and dy */
    float *in[5], *low[5], *got[4];
    double *sums = calloc((size_t)(n * k + n), sizeof *sums);
    for (int i = 0; i < 5; i++) in[i] = malloc((size_t)counts[i] * 4), low[i] = malloc((size_t)counts[i] * 4);
    for (int i = 0; i < 4; i++) got[i] = malloc((size_t)out_counts[i] * 4);
    for (int run = 0; run < RUNS_OF_EACH; run++) {
        /* they grow, shrink, are zero once, and one run is not finite */
        const float size = run == 0 ? 0 : run == 3 ? 100 : run > 12 ? 1e-3f : 1 + (float)run;
        for (int i = 0; i < 5; i++) {
            fill(in[i], counts[i], i == 2 ? 1e-5f * size : size, &seed);
            if (run == 6 && i == 0) in[i][counts[i] / 3] = INFINITY;
            upload_bf16(b[i], in[i], counts[i]);
        }
        must(sid2_program_run(program, &err));
        for (int i = 0; i < 4; i++)
            must(sid2_buffer_download(out[i], 0, got[i], (size_t)out_counts[i] * 4, &err));
#define ROUNDED(i, scale, format)                                                                            \
    (memcpy(low[i], in[i], (size_t)counts[i] * 4),                                                           \
     expect_rounded(&scales[scale], low[i], counts[i], format), low[i])
        const float *rx = ROUNDED(0, 0, SID2_E4M3), *rw = ROUNDED(1, 1, SID2_E4M3);
        bool finite = run < 6;
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                double sum = (c->bias ? (double)in[3][j] : 0) + (c->residual ? (double)in[4][i * n + j] : 0),
                       size_of = fabs(sum);
                for (int t = 0; t < k; t++) {
                    double term = (double)rx[i * k + t] * (double)rw[j * k + t];
                    sum += term, size_of += fabs(term);
                }
                double is = (double)got[0][i * n + j];
                if (isfinite(sum) ? !(fabs(is - sum) <= 0.01 * size_of) : isfinite(is))
                    fail_msg("y[%d,%d], run %d: %g, not %g", i, j, run, is, sum);
            }
        rw = ROUNDED(1, 2, SID2_E4M3);
        const float *rdy = ROUNDED(2, 3, SID2_E5M2);
        for (int i = 0; i < m; i++)
            for (int t = 0; t < k; t++) {
                double sum = 0, size_of = 0;
                for (int j = 0; j < n; j++) {
                    double term = (double)rdy[i * n + j] * (double)rw[j * k + t];
                    sum += term, size_of += fabs(term);
                }
                if (!(fabs((double)got[1][i * k + t] - sum) <= 0.01 * size_of))
                    fail_msg("dx[%d,%d], run %d: %g, not %g", i, t, run, (double)got[1][i * k + t], sum);
            }
        rx = ROUNDED(0, 4, SID2_E4M3);
        rdy = ROUNDED(2, 5, SID2_E5M2);
        for (int j = 0; finite && j < n; j++) {
            for (int i = 0; i < m; i++) sums[n * k + j] += (double)in[2][i * n + j];
            double biased = c->bias ? (double)got[3][j] - sums[n * k + j] : 0;
            if (!(fabs(biased) <= 1e-3 * (1e-8 + fabs(sums[n * k + j])) + 1e-9 * m))
                fail_msg("dbias[%d], run %d", j, run);
            for (int t = 0; t < k; t++) {
                for (int i = 0; i < m; i++) sums[j * k + t] += (double)rdy[i * n + j] * (double)rx[i * k + t];
                double is = (double)got[2][j * k + t], should = sums[j * k + t];
                if (!(fabs(is - should) <= 1e-4 * fabs(should) + 1e-7))
                    fail_msg("dw[%d,%d], run %d: %g, not %g", j, t, run, is, should);
            }
        }
    }
    for (int i = 0; i < 5; i++) free(in[i]), free(low[i]), sid2_buffer_destroy(b[i]);
    sid2_program_destroy(program);
    for (int i = 0; i < 4; i++) free(got[i]), sid2_buffer_destroy(out[i]);
    free(sums);
    sid2_graph_destroy(g);
}

static void products_in_eight_bits_are_of_rounded_operands(void **state)
{
    (void)state;
    static const eight_case cases[] = {{32, 16, 48, false, false, false}, {16, 32, 16, true, false, false},
                                       {48, 48, 32, true, true, false},   {144, 80, 16, false, true, false},
                                       {32, 16, 32, true, true, true},    {64, 80, 144, true, false, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setup(NULL);
        fake.seed = i;
        sid2_device *device =
            open_on("cuda:0", (sid2_device_options){.fp8 = SID2_FP8_ALL, .deterministic = i % 2});
        assert_non_null(strstr(sid2_device_describe(device)->detail, "products in FP8"));
        check_eight_case(device, &cases[i], 11 + i);
        assert_int_equal(fake.eights, 3 * 20);
        assert_true(fake.captures == 1 && fake.rounded == 2 * fake.eights);
        sid2_device_close(device);
    }
}

/* Sides that are no multiples of 16, small ones where only large ones are wanted, and 32 bits are multiplied as before. */
static void what_cannot_have_eight_bits_keeps_its_own(void **state)
{
    (void)state;
    static const sid2_op ops[] = {SID2_OP_linear, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad};
    sid2_device *reference = open_on("reference", (sid2_device_options){0});
    sid2_device *device = open_on("cuda:0", (sid2_device_options){.fp8 = SID2_FP8_LARGE});
    for (int o = 0; o < 3; o++) check_op(device, reference, ops[o], SID2_BF16, 40);
    sid2_device_close(device);
    device = open_on("cuda:0", (sid2_device_options){.fp8 = SID2_FP8_ALL});
    for (int o = 0; o < 3; o++) check_op(device, reference, ops[o], SID2_F32, 40);
    sid2_device_close(device);
    assert_true(fake.products > 0);
    assert_int_equal(fake.eights, 0);
    sid2_device_close(reference);
}

static void devices_without_eight_bits_say_so(void **state)
{
    (void)state;
    const sid2_device_options options = {.fp8 = SID2_FP8_LARGE};
    assert_null(sid2_backends_open(all, 2, "cpu", &options, &err));
    assert_non_null(strstr(err.message, "has no FP8 products"));
    fake.capability = 86;
    assert_null(sid2_backends_open(all, 2, "cuda:0", &options, &err));
    assert_int_equal(err.code, SID2_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message,
                           "cuda:0 (Fake GPU) has no FP8 products: they need an NVIDIA GPU of compute "
                           "capability 8.9"));
    fake.capability = 89;
    sid2_device *device = open_on("cuda:0", options);
    sid2_config *config = TINY("train.precision=f32");
    assert_null(sid2_trainer_create(device, config, 0, &err));
    assert_non_null(strstr(err.message, "train.precision is f32"));
    sid2_config_destroy(config);
    config = TINY("train.precision=bf16", "train.verify_every=5");
    assert_null(sid2_trainer_create(device, config, 0, &err));
    assert_non_null(strstr(err.message, "train.verify_every"));
    sid2_config_destroy(config);
    sid2_device_close(device);
}

/* ---- Ways that are measured ---- */

static char cache[64], *cache_before;

static int setup_cache(void **state)
{
    const char *now = getenv("XDG_CACHE_HOME");
    cache_before = now ? strdup(now) : NULL;
    strcpy(cache, "/tmp/sid2-ways-XXXXXX");
    return mkdtemp(cache) && !setenv("XDG_CACHE_HOME", cache, 1) ? setup(state) : -1;
}

static int teardown_cache(void **state)
{
    if (cache_before) setenv("XDG_CACHE_HOME", cache_before, 1);
    if (!cache_before) unsetenv("XDG_CACHE_HOME");
    free(cache_before);
    return sid2_remove_tree(cache, NULL) ? teardown(state) : -1;
}

static void the_fastest_is_the_first_but_for_more_than_noise(void **state)
{
    (void)state;
    assert_int_equal(sid2_cuda_fastest((const float[]){1}, 1), 0);
    assert_int_equal(sid2_cuda_fastest((const float[]){1, 0.98f, 1.2f}, 3), 0);
    assert_int_equal(sid2_cuda_fastest((const float[]){1, 0.9f, 0.89f, 2}, 4), 2);
    assert_int_equal(sid2_cuda_fastest((const float[]){INFINITY, INFINITY, 5}, 3), 2);
    assert_int_equal(sid2_cuda_fastest((const float[]){1, INFINITY}, 2), 0);
    assert_int_equal(sid2_cuda_fastest((const float[]){INFINITY, INFINITY}, 2), 0);
    for (int first = 0; first < 4; first++) { /* each once, that one before the others */
        int seen = 0;
        for (int i = 0; i < 4; i++) seen |= 1 << sid2_cuda_way_at(first, i);
        assert_int_equal(seen, 15);
        assert_int_equal(sid2_cuda_way_at(first, 0), first);
    }
}

#if SID2_HAVE_CUDNN
enum { CUDNN = 91900 };
#else
enum { CUDNN = 0 };
#endif
enum { WAY_CASES = 30 };

/* Products and convolutions, as the reference has them. Only the runs made now are counted. */
static void check_libraries(sid2_device *device)
{
    static const sid2_op ops[] = {SID2_OP_linear, SID2_OP_linear_dgrad, SID2_OP_linear_wgrad,
                                  SID2_OP_conv2d, SID2_OP_conv2d_wgrad, SID2_OP_attention_grad};
    sid2_device *reference = open_on("reference", (sid2_device_options){0});
    memset(fake.algorithms, 0, sizeof fake.algorithms);
    memset(fake.engines, 0, sizeof fake.engines);
    for (int o = 0; o < 6; o++) check_op(device, reference, ops[o], SID2_BF16, WAY_CASES);
    sid2_device_close(reference);
}

static void only_algorithm(int number)
{
    for (int i = 0; i < 4; i++) assert_int_equal(fake.algorithms[i] > 0, i == number);
}

/* Asked for, all ways are run, each result stays what it was, and the fastest is kept; later the fastest alone is run, on
 * that device with those libraries. */
static void ways_are_measured_once_and_kept(void **state)
{
    (void)state;
    fake.cudnn = CUDNN;
    memcpy(fake.algorithm_time, (float[]){0, 3, 2, 1}, sizeof fake.algorithm_time);
    memcpy(fake.engine_time, (float[]){0, 3, 0, 2, 1}, sizeof fake.engine_time);
    sid2_device *device = open_cuda();
    check_libraries(device); /* nothing is measured unasked */
    only_algorithm(1);
    sid2_device_close(device);

    device = open_cuda();
    void *self = sid2_device_self(device, &sid2_backend_cuda);
    sid2_backend_cuda.measure(self);
    check_libraries(device);
    int ways = 0, products = 0;
    for (const sid2_way_report *r; (r = sid2_backend_cuda.measured(self, ways)); ways++) {
        assert_true(r->ways > 1 && r->best < r->first);
        bool product = !strncmp(r->call, "linear", 6);
        if (product) assert_int_equal(r->fastest, 3);
        if (product) assert_true(fabs(r->first - r->best - 2e-3) < 1e-4);
        products += product;
    }
    assert_true(products > WAY_CASES && (!CUDNN || ways > products + WAY_CASES));
    must(sid2_backend_cuda.keep_measured(self, &err));
    sid2_device_close(device);

    device = open_cuda();
    assert_non_null(strstr(sid2_device_describe(device)->detail, "as measured"));
    check_libraries(device);
    only_algorithm(3);
    assert_int_equal(fake.engines[1], 0);
    assert_int_equal(fake.engines[4] > 0, CUDNN > 0);
    sid2_device_close(device);
}

static void a_way_that_fails_is_not_taken(void **state)
{
    (void)state;
    memcpy(fake.algorithm_time, (float[]){0, 3, 2, 1}, sizeof fake.algorithm_time);
    fake.broken_algorithm = 3;
    sid2_device *device = open_cuda();
    void *self = sid2_device_self(device, &sid2_backend_cuda);
    sid2_backend_cuda.measure(self);
    check_libraries(device);
    for (int i = 0; sid2_backend_cuda.measured(self, i); i++)
        assert_int_equal(sid2_backend_cuda.measured(self, i)->fastest, 2);
    sid2_device_close(device);
}

/* Another's, damaged ones and none: the library's first way. */
static void what_is_kept_is_ours_or_not_used(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdef0123456789abcdef";
    static const char *const wrong[] = {"0123 1\n", "%s\n",    "%s 0\n",   "%s -1\n",
                                        "%s 2",     "%s  2\n", "%s 2\n\n", "%s 2\n%s 1\n"};
    sid2_cuda_kept kept;
    char path[4096], text[200];
    assert_int_equal(sid2_cuda_kept_load(&kept, "a GPU", path), 0);
    must(sid2_cuda_kept_write(&kept, &err));
    sid2_cuda_kept_clear(&kept);
    assert_int_equal(sid2_cuda_kept_load(&kept, "a GPU", path), 1);
    assert_int_equal(kept.count, 0);
    assert_int_equal(sid2_cuda_kept_load(&kept, "another GPU", path), 0);
    snprintf(text, sizeof text, "%s 2\n", digits);
    must(sid2_keep_text("cuda-ways", "a GPU", text, &err));
    assert_int_equal(sid2_cuda_kept_load(&kept, "a GPU", path), 1);
    assert_int_equal(kept.count, 1);
    sid2_cuda_kept_clear(&kept);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "%s", wrong[i]);
        char *mark;
        while ((mark = strstr(text, "%s"))) {
            char rest[200];
            strcpy(rest, mark + 2);
            snprintf(mark, sizeof text - (size_t)(mark - text), "%s%s", digits, rest);
        }
        must(sid2_keep_text("cuda-ways", "a GPU", text, &err));
        if (sid2_cuda_kept_load(&kept, "a GPU", path) != -1 || kept.count)
            fail_msg("'%s' is taken for ours", text);
        sid2_cuda_kept_clear(&kept);
    }

    /* a flipped digit of a device's own file is said, and its first ways are taken */
    memcpy(fake.algorithm_time, (float[]){0, 3, 2, 1}, sizeof fake.algorithm_time);
    sid2_device *device = open_cuda();
    sid2_cuda_device *self = sid2_device_self(device, &sid2_backend_cuda);
    sid2_backend_cuda.measure(self);
    check_libraries(device);
    must(sid2_backend_cuda.keep_measured(self, &err));
    assert_int_equal(sid2_cuda_kept_load(&kept, self->kept.identity, path), 1);
    sid2_cuda_kept_clear(&kept);
    sid2_device_close(device);
    size_t length;
    unsigned char *bytes = sid2_file_read(path, 1 << 20, &length, &err);
    assert_non_null(bytes);
    bytes[length - 4] ^= 1;
    must(sid2_file_write(path, bytes, length, &err));
    free(bytes);
    char line[200] = "";
    bool told = false;
    for (int i = 0; sid2_backend_cuda.missing(i, line); i++) told |= strstr(line, "cannot be read") != NULL;
    assert_true(told);
    device = open_cuda();
    check_libraries(device);
    only_algorithm(1);
    sid2_device_close(device);
}

static void every_operator_runs(void **state)
{
    (void)state;
    sid2_device *reference = open_on("reference", (sid2_device_options){0}), *device = open_cuda();
    for (int op = 0; op < SID2_OP_COUNT; op++)
        if (sid2_device_supports(device, (sid2_op)op, SID2_BF16))
            check_op(device, reference, (sid2_op)op, SID2_BF16, 4);
    sid2_device_close(device);
    sid2_device_close(reference);
}

/* ---- Programs ---- */

enum { ROWS = 24, WIDTH = 16, COUNT = ROWS * WIDTH };

typedef struct fixture {
    sid2_device *device;
    sid2_graph *graph;
    sid2_program *program;
    sid2_buffer *x, *w, *y, *sum;
} fixture;

/* y = silu(x w^T) w^T + x, and sum += y^T x: something that depends on how often it ran. */
static fixture make_fixture(sid2_device *device)
{
    fixture f = {.device = device, .graph = sid2_graph_create(SID2_F32)};
    sid2_graph *g = f.graph;
    sid2_tensor x = sid2_graph_external(g, "x", SID2_F32, sid2_shape_of(ROWS, WIDTH));
    sid2_tensor w = sid2_graph_external(g, "w", SID2_F32, sid2_shape_of(WIDTH, WIDTH));
    sid2_tensor sum = sid2_graph_external(g, "sum", SID2_F32, sid2_shape_of(WIDTH, WIDTH));
    sid2_tensor h = sid2_linear(g, sid2_silu(g, sid2_linear(g, x, w, SID2_NONE)), w, SID2_NONE);
    sid2_tensor y = sid2_graph_export(g, sid2_add(g, h, x), "y");
    sid2_graph_emit_into(g, SID2_OP_linear_wgrad, (sid2_attr){0}, (sid2_tensor[]){x, y}, 2, &sum, 1);
    must(sid2_graph_finish(g, &err));
    f.x = sid2_buffer_create(device, COUNT * 4, &err);
    f.w = sid2_buffer_create(device, WIDTH * WIDTH * 4, &err);
    f.y = sid2_buffer_create(device, COUNT * 4, &err);
    f.sum = sid2_buffer_create(device, WIDTH * WIDTH * 4, &err);
    const sid2_binding bindings[] = {{"x", f.x}, {"w", f.w}, {"y", f.y}, {"sum", f.sum}};
    f.program = sid2_program_create(device, g, NULL, bindings, 4, &err);
    must(f.program);
    float weights[WIDTH * WIDTH];
    for (int i = 0; i < WIDTH * WIDTH; i++) weights[i] = 0.2f * sinf(0.7f * (float)i);
    must(sid2_buffer_upload(f.w, 0, weights, sizeof weights, &err));
    return f;
}

static void free_fixture(fixture *f)
{
    sid2_program_destroy(f->program);
    sid2_graph_destroy(f->graph);
    sid2_buffer_destroy(f->x);
    sid2_buffer_destroy(f->w);
    sid2_buffer_destroy(f->y);
    sid2_buffer_destroy(f->sum);
    sid2_device_close(f->device);
}

enum { RUNS = 5, RESULTS = RUNS * COUNT + WIDTH * WIDTH };

/* Runs with other inputs each time, the outputs read late, then the sum. */
static void run_all(fixture *f, float results[RESULTS])
{
    float x[COUNT];
    for (int run = 0; run < RUNS; run++) {
        for (int i = 0; i < COUNT; i++) x[i] = cosf(0.3f * (float)(i + 17 * run));
        must(sid2_buffer_upload(f->x, 0, x, sizeof x, &err));
        must(sid2_program_run(f->program, &err));
        must(sid2_buffer_download_later(f->y, 0, results + run * COUNT, sizeof x, &err));
    }
    must(sid2_buffer_download(f->sum, 0, results + RUNS * COUNT, WIDTH * WIDTH * 4, &err));
}

static void launches_agree(void **state)
{
    (void)state;
    static const struct {
        const char *launch;
        int captures, graph_launches;
    } cases[] = {{NULL, 1, RUNS - 1}, {"graph", 1, RUNS - 1}, {"plain", 0, 0}, {"sync", 0, 0}};
    static float expected[RESULTS], results[RESULTS];
    fixture f = make_fixture(open_on("reference", (sid2_device_options){0}));
    run_all(&f, expected);
    free_fixture(&f);
    for (int c = 0; c < 4 * 8; c++) {
        setup(NULL);
        fake.seed = (uint64_t)c;
        if (cases[c % 4].launch) setenv("SID2_CUDA_LAUNCH", cases[c % 4].launch, 1);
        f = make_fixture(open_cuda());
        assert_true(sid2_program_workspace(f.program) > 0);
        run_all(&f, results);
        assert_null(sid2_device_notice(f.device));
        assert_int_equal(fake.captures, cases[c % 4].captures);
        assert_int_equal(fake.graph_launches, cases[c % 4].graph_launches);
        for (int i = 0; i < RESULTS; i++)
            if (!(fabsf(results[i] - expected[i]) <= 1e-5f * (1 + fabsf(expected[i]))))
                fail_msg("case %d, %d: %g, not %g", c, i, (double)results[i], (double)expected[i]);
        free_fixture(&f);
    }
}

static void what_cannot_be_captured_still_runs(void **state)
{
    (void)state;
    static float results[RESULTS];
    fake.capture_refused = true;
    fixture f = make_fixture(open_cuda());
    err = (sid2_error){0};
    run_all(&f, results);
    assert_int_equal(fake.graph_launches, 0);
    assert_int_equal(err.code, SID2_OK);
    const char *notice = sid2_device_notice(f.device);
    assert_non_null(notice);
    assert_non_null(strstr(notice, "cuda:0: 5 kernels are launched one by one"));
    assert_non_null(strstr(notice, "capturing a graph"));
    assert_null(sid2_device_notice(f.device)); /* once */
    free_fixture(&f);

    setenv("SID2_CUDA_LAUNCH", "graph", 1);
    f = make_fixture(open_cuda());
    must(sid2_program_run(f.program, &err));
    assert_false(sid2_program_run(f.program, &err));
    assert_non_null(strstr(err.message, "CUDA graph"));
    free_fixture(&f);

    setenv("SID2_CUDA_LAUNCH", "sometimes", 1);
    assert_null(sid2_backends_open(all, 2, "cuda:0", NULL, &err));
    assert_non_null(strstr(err.message, "sometimes"));
}

static void profiles_count_every_node(void **state)
{
    (void)state;
    static float results[RESULTS];
    fixture f = make_fixture(open_cuda());
    run_all(&f, results);
    const sid2_node_time *times = sid2_program_profile(f.program);
    assert_non_null(times);
    for (int i = 0; i < 3; i++) must(sid2_program_run(f.program, &err));
    assert_ptr_equal(times, sid2_program_profile(f.program));
    for (int n = 0; n < f.graph->node_count; n++) {
        assert_int_equal(times[n].runs, 3);
        assert_true(times[n].seconds > 0);
    }
    free_fixture(&f);
}

static void faults_name_their_node(void **state)
{
    (void)state;
    float y[COUNT];
    setenv("SID2_CUDA_LAUNCH", "sync", 1);
    fixture f = make_fixture(open_cuda());
    must(sid2_program_run(f.program, &err));
    fake.fail_after = 1; /* the second node */
    assert_false(sid2_program_run(f.program, &err));
    assert_int_equal(err.code, SID2_ERR_LOST);
    assert_non_null(strstr(err.message, "node 1 (activation)"));
    assert_non_null(strstr(err.message, "illegal memory access"));
    assert_null(strchr(err.message, '\n'));
    assert_false(sid2_program_run(f.program, &err));
    assert_false(sid2_buffer_download(f.y, 0, y, sizeof y, &err));
    assert_non_null(strstr(err.message, "illegal memory access"));
    free_fixture(&f); /* also then */
    fake_recover();
}

static void programs_share_an_arena(void **state)
{
    (void)state;
    for (int seed = 0; seed < 8; seed++) {
        fake.seed = (uint64_t)seed;
        sid2_device *device = open_cuda();
        check_shared_arena(device);
        sid2_device_close(device);
    }
}

static void programs_stop_where_they_are_told(void **state)
{
    (void)state;
    for (int seed = 0; seed < 8; seed++) {
        setup(NULL);
        fake.seed = (uint64_t)seed;
        sid2_device *device = open_cuda();
        check_stops(device);
        assert_int_equal(fake.captures, 3); /* one a section: up to early, to late, to the end */
        sid2_device_close(device);
    }
}

static void what_is_not_there_is_refused_by_name(void **state)
{
    (void)state;
    sid2_device *device = open_cuda();
    assert_true(check_refusals(device) >= SID2_OP_COUNT); /* not f64 */
    sid2_device_close(device);
}

/* ---- A model ---- */

/* By the reference, by own kernels and cublasLt, and with cuDNN; losses and norms may differ by `share`. */
static void train(sid2_config *config, double share)
{
    enum { BATCH = 8, BYTES = 64, STEPS = 4 };
    static uint8_t pixels[BATCH * BYTES];
    static int32_t labels[BATCH];
    sid2_device *devices[] = {open_on("reference", (sid2_device_options){0}), open_cuda(), NULL};
    fake.cudnn = 91900;
    devices[2] = open_cuda();
    sid2_trainer *t[3];
    for (int d = 0; d < 3; d++) must(t[d] = sid2_trainer_create(devices[d], config, 0, &err));
    fake.casts = 0;
    for (int step = 0; step < STEPS; step++) {
        sid2_train_stats stats[3];
        make_images(pixels, labels, BATCH, BYTES, 3, (uint64_t)step * BATCH);
        for (int d = 0; d < 3; d++) {
            must(sid2_trainer_step(t[d], pixels, labels, &err));
            stats[d] = *sid2_trainer_stats(t[d]);
        }
        for (int d = 1; d < 3; d++) {
            assert_true(fabs(stats[0].loss - stats[d].loss) < share * stats[0].loss);
            assert_true(fabs(stats[0].grad_norm - stats[d].grad_norm) < 10 * share * stats[0].grad_norm);
            for (int i = 0; i < BATCH; i++)
                assert_true(fabs((double)stats[0].sample_loss[i] - (double)stats[d].sample_loss[i]) <
                            10 * share * (double)stats[0].sample_loss[i]);
        }
    }
    assert_true(fake.captures >= 4 && fake.graph_launches >= 4 * STEPS - 2);
    assert_in_range(fake.casts, 0, 2 * STEPS * 5); /* those of the graph; biases are there in 16 bits */
    for (int d = 0; d < 3; d++) {
        sid2_trainer_destroy(t[d]);
        sid2_device_close(devices[d]);
    }
    sid2_config_destroy(config);
}

static void training_agrees(void **state)
{
    (void)state;
    train(TINY("model.dropout=0.1"), 1e-5);
}

static void training_on_oblong_images_agrees(void **state)
{
    (void)state;
    train(TINY("model.dropout=0.1", "model.image_size=4x16"), 1e-5);
}

/* Four lanes of two micro-batches: their sums wait at two heights. */
static void training_in_lanes_agrees(void **state)
{
    (void)state;
    train(TINY("model.dropout=0.1", "train.lanes=4", "train.microbatch=1"), 1e-5);
}

static void training_in_bf16_agrees(void **state)
{
    (void)state;
    train(TINY("model.dropout=0.1", "train.precision=bf16"), 5e-3);
}

/* Losses of the same training in bf16 and with all products in eight bits; SID2_CURVES: so many steps, printed. */
static void training_in_eight_bits_learns_as_well(void **state)
{
    (void)state;
    enum { BATCH = 8, BYTES = 64, EVERY = 20 };
    static uint8_t pixels[BATCH * BYTES];
    static int32_t labels[BATCH];
    const char *asked = getenv("SID2_CURVES");
    const int steps = asked ? atoi(asked) : 60;
    sid2_device *devices[2];
    sid2_trainer *t[2];
    for (int d = 0; d < 2; d++) {
        sid2_config *config =
            TINY("train.precision=bf16", "model.channels=16,32", "train.learning_rate=2e-3");
        devices[d] = open_on("cuda:0", (sid2_device_options){.fp8 = d ? SID2_FP8_ALL : SID2_FP8_NONE});
        must(t[d] = sid2_trainer_create(devices[d], config, 0, &err));
        sid2_config_destroy(config);
    }
    double first = 0, sum[2] = {0};
    for (int step = 0; step < steps; step++) {
        make_images(pixels, labels, BATCH, BYTES, 3, (uint64_t)step * BATCH);
        for (int d = 0; d < 2; d++) {
            must(sid2_trainer_step(t[d], pixels, labels, &err));
            sum[d] += sid2_trainer_stats(t[d])->loss / EVERY;
        }
        if ((step + 1) % EVERY) continue;
        if (asked) print_message("| %d | %.4f | %.4f |\n", step + 1, sum[0], sum[1]);
        if (step < EVERY) first = sum[0];
        assert_true(fabs(sum[1] / sum[0] - 1) < 0.05);
        if (step + EVERY >= steps) assert_true(sum[0] < 0.9 * first && sum[1] < 0.9 * first);
        sum[0] = sum[1] = 0;
    }
    assert_true(fake.eights > 10 * steps);
    for (int d = 0; d < 2; d++) {
        sid2_trainer_destroy(t[d]);
        sid2_device_close(devices[d]);
    }
}

/* Own kernels here are the reference's; the real ones are held against it with and without NaN by test_cuda_kernels. */
static void a_nan_is_caught(void **state)
{
    (void)state;
    sid2_device *device = open_cuda();
    nan_is_caught(device);
    sid2_device_close(device);
}

/* Argument: only the tests of this name, with * as in a shell. */
int main(int argc, char **argv)
{
    if (argc > 1) cmocka_set_test_filter(argv[1]);
#define TEST(name)       cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_CACHE(name) cmocka_unit_test_setup_teardown(name, setup_cache, teardown_cache)
    const struct CMUnitTest tests[] = {
        TEST(devices_describe_themselves),
        TEST(what_is_missing_is_named),
        TEST(devices_without_code_are_not_listed),
        TEST(memory_that_is_not_there_is_counted),
        TEST(transfers_keep_their_order),
        TEST(products_agree_with_the_reference),
        TEST(convolutions_and_attention_agree_with_the_reference),
        TEST(eight_bits_round_to_the_nearest),
        TEST(products_in_eight_bits_are_of_rounded_operands),
        TEST(what_cannot_have_eight_bits_keeps_its_own),
        TEST(devices_without_eight_bits_say_so),
        cmocka_unit_test(the_fastest_is_the_first_but_for_more_than_noise),
        TEST_CACHE(ways_are_measured_once_and_kept),
        TEST_CACHE(a_way_that_fails_is_not_taken),
        TEST_CACHE(what_is_kept_is_ours_or_not_used),
        TEST(every_operator_runs),
        TEST(launches_agree),
        TEST(what_cannot_be_captured_still_runs),
        TEST(profiles_count_every_node),
        TEST(faults_name_their_node),
        TEST(programs_share_an_arena),
        TEST(programs_stop_where_they_are_told),
        TEST(what_is_not_there_is_refused_by_name),
        TEST(training_agrees),
        TEST(training_on_oblong_images_agrees),
        TEST(training_in_lanes_agrees),
        TEST(training_in_bf16_agrees),
        TEST(training_in_eight_bits_learns_as_well),
        TEST(a_nan_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
