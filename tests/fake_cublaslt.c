/* cublasLt on the host, for tests of cuda/cublaslt.c: matrices by column, leading dimensions, epilogues and
 * alignments as its manual has them. It refuses some shapes where it should have a kernel, gives algorithms
 * that want workspace, and soils that workspace. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

#include "../cuda/fp8.h"
#include "../cuda/libraries.h"
#include "element.h"

typedef struct matmul_desc {
    cublasComputeType_t compute;
    int32_t transpose_a, transpose_b;
    cublasLtEpilogue_t epilogue;
    void *bias;
    const float *scale[2]; /* of A and B in eight bits */
    int8_t hasty;
    int32_t bias_type; /* -1: D's */
} matmul_desc;

typedef struct layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading;
} layout;

typedef struct preference {
    uint64_t workspace;
    uint32_t reductions, align_a, align_b, align_c, align_d;
} preference;

/* What an algorithm remembers: it must be used for what it was found for. */
typedef struct algorithm {
    uint32_t magic, epilogue, align_a, align_b, align_c, align_d;
    uint64_t workspace, number;
} algorithm;
_Static_assert(sizeof(algorithm) <= sizeof(cublasLtMatmulAlgo_t), "an algorithm must fit");
enum { MAGIC = 0x51d2 };

#define AS(type, pointer) ((type *)(void *)(pointer))
#define OF(type, pointer) ((const type *)(const void *)(pointer))

static cublasStatus_t create(cublasLtHandle_t *handle)
{
    *handle = malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t destroy(cublasLtHandle_t handle) { return free(handle), CUBLAS_STATUS_SUCCESS; }
static size_t version(void) { return 130100; }

static cublasStatus_t matmul_create(cublasLtMatmulDesc_t *desc, cublasComputeType_t compute,
                                    cudaDataType_t scale)
{
    if (scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
    matmul_desc *d = calloc(1, sizeof *d);
    *d = (matmul_desc){.compute = compute, .epilogue = CUBLASLT_EPILOGUE_DEFAULT, .bias_type = -1};
    *desc = (cublasLtMatmulDesc_t)(void *)d;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t matmul_destroy(cublasLtMatmulDesc_t desc) { return free(desc), CUBLAS_STATUS_SUCCESS; }

static cublasStatus_t set(void *field, size_t size, const void *value, size_t given)
{
    if (size != given) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t matmul_set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute,
                                 const void *value, size_t size)
{
    matmul_desc *d = AS(matmul_desc, desc);
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return set(&d->transpose_a, 4, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB: return set(&d->transpose_b, 4, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return set(&d->epilogue, 4, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return set(&d->bias, sizeof d->bias, value, size);
    case CUBLASLT_MATMUL_DESC_A_SCALE_POINTER: return set(&d->scale[0], sizeof d->scale[0], value, size);
    case CUBLASLT_MATMUL_DESC_B_SCALE_POINTER: return set(&d->scale[1], sizeof d->scale[1], value, size);
    case CUBLASLT_MATMUL_DESC_FAST_ACCUM: return set(&d->hasty, 1, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: return set(&d->bias_type, 4, value, size);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

static cublasStatus_t layout_create(cublasLtMatrixLayout_t *made, cudaDataType type, uint64_t rows,
                                    uint64_t columns, int64_t leading)
{
    layout *l = malloc(sizeof *l);
    *l = (layout){type, rows, columns, leading};
    *made = (cublasLtMatrixLayout_t)(void *)l;
    return leading >= (int64_t)rows ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

static cublasStatus_t layout_destroy(cublasLtMatrixLayout_t l) { return free(l), CUBLAS_STATUS_SUCCESS; }

static cublasStatus_t preference_create(cublasLtMatmulPreference_t *made)
{
    preference *p = malloc(sizeof *p);
    *p = (preference){0, CUBLASLT_REDUCTION_SCHEME_MASK, 256, 256, 256, 256};
    *made = (cublasLtMatmulPreference_t)(void *)p;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t preference_destroy(cublasLtMatmulPreference_t p)
{
    return free(p), CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t preference_set(cublasLtMatmulPreference_t made,
                                     cublasLtMatmulPreferenceAttributes_t attribute, const void *value,
                                     size_t size)
{
    preference *p = AS(preference, made);
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return set(&p->workspace, 8, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return set(&p->reductions, 4, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return set(&p->align_a, 4, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return set(&p->align_b, 4, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return set(&p->align_c, 4, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return set(&p->align_d, 4, value, size);
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

static bool is_eight(cudaDataType_t type) { return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2; }

/* Both in eight bits, not both E5M2; A read transposed, B as it is; multiples of 16; 16-bit biases of 16-bit results alone, and
 * no gradient of one. */
static bool sound_eight(const matmul_desc *d, const layout *a, const layout *b, const layout *out)
{
    bool wide = out->type == CUDA_R_32F;
    return is_eight(a->type) && is_eight(b->type) &&
           (a->type == CUDA_R_8F_E4M3 || b->type == CUDA_R_8F_E4M3) &&
           (wide || out->type == CUDA_R_16BF || out->type == CUDA_R_16F) && d->transpose_a &&
           !d->transpose_b && d->compute == CUBLAS_COMPUTE_32F && out->rows % 16 == 0 && a->rows % 16 == 0 &&
           d->scale[0] && d->scale[1] && d->hasty == (b->type == CUDA_R_8F_E4M3) &&
           d->epilogue != CUBLASLT_EPILOGUE_BGRADB &&
           (d->epilogue != CUBLASLT_EPILOGUE_BIAS || (!wide && d->bias_type == (int32_t)out->type));
}

/* Shapes that fit each other, and the types of the manual's table. */
static bool sound(const matmul_desc *d, const layout *a, const layout *b, const layout *c, const layout *out)
{
    uint64_t m = d->transpose_a ? a->columns : a->rows, k = d->transpose_a ? a->rows : a->columns;
    uint64_t n = d->transpose_b ? b->rows : b->columns, k2 = d->transpose_b ? b->columns : b->rows;
    bool types = c->type == out->type;
    if (is_eight(a->type) || is_eight(b->type))
        types = types && sound_eight(d, a, b, out);
    else
        types = types && a->type == b->type && (out->type == a->type || out->type == CUDA_R_32F);
    if (d->compute == CUBLAS_COMPUTE_32F_FAST_TF32) types = types && a->type == CUDA_R_32F;
    return types && k == k2 && m == out->rows && n == out->columns && c->rows == m && c->columns == n;
}

static cublasStatus_t heuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                cublasLtMatrixLayout_t out, cublasLtMatmulPreference_t wanted, int most,
                                cublasLtMatmulHeuristicResult_t results[], int *count)
{
    const matmul_desc *d = OF(matmul_desc, desc);
    const layout *la = OF(layout, a), *lb = OF(layout, b), *lo = OF(layout, out);
    const preference *p = OF(preference, wanted);
    *count = 0;
    if (!handle || !sound(d, la, lb, OF(layout, c), lo)) return CUBLAS_STATUS_INVALID_VALUE;
    if (d->epilogue == CUBLASLT_EPILOGUE_BGRADB && lo->columns % 2) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (lo->rows == 7 || most < 2) return CUBLAS_STATUS_NOT_SUPPORTED;
    algorithm found = {MAGIC, (uint32_t)d->epilogue, p->align_a, p->align_b, p->align_c, p->align_d, 0, 0};
    *count = most < 4 ? most : 4;
    memset(results, 0, (size_t)*count * sizeof *results);
    results[0].state = CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 1; i < *count; i++) {
        found.number = (uint64_t)i;
        found.workspace = p->workspace < 4096 ? 0 : 256 * (uint64_t)i + lo->rows * 16;
        results[i].state = CUBLAS_STATUS_SUCCESS;
        results[i].workspaceSize = found.workspace;
        memcpy(&results[i].algo, &found, sizeof found);
    }
    return CUBLAS_STATUS_SUCCESS;
}

typedef struct product {
    matmul_desc desc;
    layout a, b, d;
    const void *in_a, *in_b, *in_c;
    void *out, *workspace;
    size_t workspace_bytes, number;
    float alpha, beta;
} product;

static sid2_dtype dtype_of(cudaDataType_t type)
{
    return type == CUDA_R_16BF ? SID2_BF16 : type == CUDA_R_16F ? SID2_F16 : SID2_F32;
}

static double element(const layout *l, const void *data, int32_t transposed, uint64_t i, uint64_t j)
{
    int64_t at = transposed ? (int64_t)j + (int64_t)i * l->leading : (int64_t)i + (int64_t)j * l->leading;
    if (is_eight(l->type))
        return (double)sid2_fp8_to_f32(((const uint8_t *)data)[at],
                                       l->type == CUDA_R_8F_E4M3 ? SID2_E4M3 : SID2_E5M2);
    return sid2_element_get(dtype_of(l->type), data, at);
}

static void multiply(void *argument)
{
    const product *p = argument;
    sid2_dtype type = dtype_of(p->d.type);
    uint64_t m = p->d.rows, n = p->d.columns, k = p->desc.transpose_a ? p->a.rows : p->a.columns;
    double alpha = (double)p->alpha;
    memset(p->workspace, 0xff, p->workspace_bytes);
    fake.products++;
    if (is_eight(p->a.type)) {
        fake.eights++;
        alpha *= (double)*p->desc.scale[0] * (double)*p->desc.scale[1];
    }
    fake.algorithms[p->number]++;
    fake.clock += fake.algorithm_time[p->number];
    fake.bias_gradients += p->desc.epilogue == CUBLASLT_EPILOGUE_BGRADB;
    for (uint64_t j = 0; j < n; j++) {
        for (uint64_t i = 0; i < m; i++) {
            double sum = 0;
            for (uint64_t t = 0; t < k; t++)
                sum += element(&p->a, p->in_a, p->desc.transpose_a, i, t) *
                       element(&p->b, p->in_b, p->desc.transpose_b, t, j);
            sum *= alpha;
            if (p->beta != 0) sum += (double)p->beta * element(&p->d, p->in_c, 0, i, j);
            if (p->desc.epilogue == CUBLASLT_EPILOGUE_BIAS)
                sum += sid2_element_get(type, p->desc.bias, (int64_t)i);
            sid2_element_set(type, p->out, (int64_t)i + (int64_t)j * p->d.leading, sum);
        }
        if (p->desc.epilogue != CUBLASLT_EPILOGUE_BGRADB) continue;
        double sum = 0;
        for (uint64_t t = 0; t < k; t++) sum += element(&p->b, p->in_b, p->desc.transpose_b, t, j);
        sid2_element_set(type, p->desc.bias, (int64_t)j, sum);
    }
}

static bool aligned(const void *address, uint64_t to) { return (uintptr_t)address % to == 0; }

static size_t bytes_of(const layout *l)
{
    return l->columns * (uint64_t)l->leading * (is_eight(l->type) ? 1 : sid2_dtype_size(dtype_of(l->type)));
}

static cublasStatus_t matmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha,
                             const void *a, cublasLtMatrixLayout_t layout_a, const void *b,
                             cublasLtMatrixLayout_t layout_b, const void *beta, const void *c,
                             cublasLtMatrixLayout_t layout_c, void *d, cublasLtMatrixLayout_t layout_d,
                             const cublasLtMatmulAlgo_t *algo, void *workspace, size_t workspace_bytes,
                             cudaStream_t stream)
{
    product p = {*OF(matmul_desc, desc),
                 *OF(layout, layout_a),
                 *OF(layout, layout_b),
                 *OF(layout, layout_d),
                 a,
                 b,
                 c,
                 d,
                 workspace,
                 workspace_bytes,
                 0,
                 *(const float *)alpha,
                 *(const float *)beta};
    algorithm chosen;
    memcpy(&chosen, algo, sizeof chosen);
    p.number = chosen.number;
    bool with_bias = p.desc.epilogue != CUBLASLT_EPILOGUE_DEFAULT;
    uint64_t bias_count = p.desc.epilogue == CUBLASLT_EPILOGUE_BIAS ? p.d.rows : p.d.columns;
    if (!handle || chosen.magic != MAGIC || chosen.epilogue != (uint32_t)p.desc.epilogue ||
        !sound(&p.desc, &p.a, &p.b, OF(layout, layout_c), &p.d) || workspace_bytes < chosen.workspace ||
        !aligned(workspace, 256) || !aligned(a, chosen.align_a) || !aligned(b, chosen.align_b) ||
        !aligned(c, chosen.align_c) || !aligned(d, chosen.align_d))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!fake_is_device(a, bytes_of(&p.a)) || !fake_is_device(b, bytes_of(&p.b)) ||
        (is_eight(p.a.type) && !(fake_is_device(p.desc.scale[0], 4) && fake_is_device(p.desc.scale[1], 4))) ||
        !fake_is_device(c, bytes_of(&p.d)) || !fake_is_device(d, bytes_of(&p.d)) ||
        (workspace_bytes && !fake_is_device(workspace, workspace_bytes)) ||
        (with_bias && !(fake_is_device(p.desc.bias, bias_count * sid2_dtype_size(dtype_of(p.d.type))) &&
                        aligned(p.desc.bias, 16))))
        return CUBLAS_STATUS_MAPPING_ERROR;
    if (fake.broken_algorithm && p.number == (size_t)fake.broken_algorithm)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    return fake_launch(stream, multiply, &p, sizeof p) ? CUBLAS_STATUS_SUCCESS
                                                       : CUBLAS_STATUS_EXECUTION_FAILED;
}

bool sid2_cublaslt_load(sid2_cublaslt *lt, char *why, size_t size)
{
    (void)why, (void)size;
    *lt = (sid2_cublaslt){
        .cublasLtCreate = create,
        .cublasLtDestroy = destroy,
        .cublasLtGetVersion = version,
        .cublasLtMatmul = matmul,
        .cublasLtMatmulAlgoGetHeuristic = heuristic,
        .cublasLtMatmulDescCreate = matmul_create,
        .cublasLtMatmulDescDestroy = matmul_destroy,
        .cublasLtMatmulDescSetAttribute = matmul_set,
        .cublasLtMatmulPreferenceCreate = preference_create,
        .cublasLtMatmulPreferenceDestroy = preference_destroy,
        .cublasLtMatmulPreferenceSetAttribute = preference_set,
        .cublasLtMatrixLayoutCreate = layout_create,
        .cublasLtMatrixLayoutDestroy = layout_destroy,
    };
    return true;
}

const char *sid2_cublaslt_version(const sid2_cublaslt *lt, char text[32])
{
    (void)lt;
    return strcpy(text, "fake cublasLt");
}
