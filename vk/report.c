#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sid2_vk_reports {
    sid2_code_report *item;
    int count, capacity;
};

sid2_vk_reports *sid2_vk_reports_create(const sid2_vk_device *device, sid2_error *err)
{
    if (!sid2_vk_gpu_has(device->gpu, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME))
        return sid2_fail(err, SID2_ERR_UNSUPPORTED, "%s: the driver does not tell what it compiles",
                         device->id),
               NULL;
    sid2_vk_reports *reports = calloc(1, sizeof *reports);
    if (!reports) sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id);
    return reports;
}

void sid2_vk_reports_destroy(sid2_vk_reports *reports)
{
    if (!reports) return;
    free(reports->item);
    free(reports);
}

const sid2_code_report *sid2_vk_reports_at(const sid2_vk_reports *reports, int i)
{
    return i >= 0 && i < reports->count ? &reports->item[i] : NULL;
}

/* ---- Loops ---- */

static bool begins(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

/* By mnemonic. AMD's say the unit: v_ vector, s_ scalar; NVIDIA's say the type. */
static int kind_of(const char *m)
{
    static const struct {
        const char *start;
        int kind;
    } table[] = {
        {"v_wmma", SID2_CODE_MATRIX},   {"v_swmmac", SID2_CODE_MATRIX},   {"hmma", SID2_CODE_MATRIX},
        {"imma", SID2_CODE_MATRIX},     {"v_fma", SID2_CODE_FMA},         {"v_dual_fma", SID2_CODE_FMA},
        {"v_pk_fma", SID2_CODE_FMA},    {"v_mad_f", SID2_CODE_FMA},       {"v_mac_f", SID2_CODE_FMA},
        {"ffma", SID2_CODE_FMA},        {"hfma2", SID2_CODE_FMA},         {"dfma", SID2_CODE_FMA},
        {"v_", SID2_CODE_VECTOR},       {"buffer_", SID2_CODE_MEMORY},    {"global_", SID2_CODE_MEMORY},
        {"flat_", SID2_CODE_MEMORY},    {"scratch_", SID2_CODE_MEMORY},   {"image_", SID2_CODE_MEMORY},
        {"tbuffer_", SID2_CODE_MEMORY}, {"ds_", SID2_CODE_MEMORY},        {"s_load", SID2_CODE_MEMORY},
        {"s_buffer", SID2_CODE_MEMORY}, {"s_barrier", SID2_CODE_BARRIER}, {"s_", SID2_CODE_OTHER},
        {"ld", SID2_CODE_MEMORY},       {"st.", SID2_CODE_MEMORY},        {"atom", SID2_CODE_MEMORY},
        {"tld", SID2_CODE_MEMORY},      {"tex", SID2_CODE_MEMORY},        {"suld", SID2_CODE_MEMORY},
        {"sust", SID2_CODE_MEMORY},     {"bar", SID2_CODE_BARRIER},       {"bra", SID2_CODE_OTHER},
        {"bs", SID2_CODE_OTHER},        {"bclear", SID2_CODE_OTHER},      {"break", SID2_CODE_OTHER},
        {"nop", SID2_CODE_OTHER},       {"exit", SID2_CODE_OTHER},        {"warpsync", SID2_CODE_OTHER},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (begins(m, table[i].start)) return table[i].kind;
    return SID2_CODE_VECTOR;
}

/* Of a line of code: "BB12:" (RADV) or "block 12 L16 [..] -> {" (NVK) begin a block, whose label this is; 0: none. */
static int label_of(const char *line)
{
    int number;
    if (sscanf(line, "BB%d:", &number) == 1) return number + 1;
    const char *label = begins(line, "block") ? strstr(line, " L") : NULL;
    return label && sscanf(label, " L%d", &number) == 1 ? number + 1 : 0;
}

/* Where a branch leads, likewise. */
static int target_of(const char *mnemonic, const char *line)
{
    int number;
    bool amd = begins(mnemonic, "s_cbranch") || begins(mnemonic, "s_branch");
    const char *at = amd ? strstr(line, " BB") : begins(mnemonic, "bra ") ? strstr(line, " L") : NULL;
    return at && sscanf(at + (amd ? 3 : 2), "%d", &number) == 1 ? number + 1 : 0;
}

/* The mnemonic in a line of machine code: behind tabs, a predicate ("@!p0") and what it writes ("r6 p0 = "). NULL: none. */
static const char *mnemonic_of(const char *line)
{
    if (*line != '\t' && *line != ' ' && *line != '@') return NULL;
    const char *equals = strchr(line, '='), *comment = strstr(line, "//");
    if (equals && (!comment || equals < comment) && equals[1] == ' ') line = equals + 1;
    if (*line == '@') line += strcspn(line, " ");
    line += strspn(line, " \t");
    return *line >= 'a' && *line <= 'z' ? line : NULL;
}

typedef struct counter {
    int *block; /* by label: the instruction it begins with, counted from 1; 0: not seen yet */
    int labels;
    unsigned char *kind; /* by instruction */
    int count;
    int inner; /* where the last loop began that ended: what encloses it is no innermost one */
} counter;

static bool is_hotter(const int a[SID2_CODE_KINDS], const int b[SID2_CODE_KINDS])
{
    int longer = 0;
    for (int kind = 0; kind < SID2_CODE_KINDS; kind++) longer += a[kind] - b[kind];
    if (a[SID2_CODE_MATRIX] != b[SID2_CODE_MATRIX]) return a[SID2_CODE_MATRIX] > b[SID2_CODE_MATRIX];
    if (a[SID2_CODE_FMA] != b[SID2_CODE_FMA]) return a[SID2_CODE_FMA] > b[SID2_CODE_FMA];
    return longer > 0;
}

static void take_line(counter *c, const char *line, int loop[SID2_CODE_KINDS])
{
    int label = label_of(line);
    if (label && label < c->labels) c->block[label] = c->count + 1;
    const char *mnemonic = mnemonic_of(line);
    if (label || !mnemonic) return;
    c->kind[c->count++] = (unsigned char)kind_of(mnemonic);
    int target = target_of(mnemonic, line), begin = target && target < c->labels ? c->block[target] : 0;
    if (!begin || begin <= c->inner) return; /* forward, or around another loop */
    int found[SID2_CODE_KINDS] = {0};
    for (int i = begin - 1; i < c->count; i++) found[c->kind[i]]++;
    c->inner = begin;
    if (is_hotter(found, loop)) memcpy(loop, found, sizeof found);
}

void sid2_vk_count_loop(const char *code, int loop[SID2_CODE_KINDS])
{
    int lines = 1;
    for (const char *at = code; (at = strchr(at, '\n')); at++) lines++;
    counter c = {.block = calloc((size_t)lines + 1, sizeof *c.block),
                 .labels = lines + 1,
                 .kind = calloc((size_t)lines, 1)};
    memset(loop, 0, SID2_CODE_KINDS * sizeof *loop);
    for (const char *at = code; c.block && c.kind && *at; at += strcspn(at, "\n"), at += *at == '\n') {
        char line[256];
        snprintf(line, sizeof line, "%.*s", (int)strcspn(at, "\n"), at);
        take_line(&c, line, loop);
    }
    free(c.block);
    free(c.kind);
}

/* ---- Asking the driver ---- */

static double number_of(const VkPipelineExecutableStatisticKHR *s)
{
    switch (s->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: return s->value.b32;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: return (double)s->value.i64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: return (double)s->value.u64;
    default: return s->value.f64;
    }
}

static void add_to(double *sum, double number) { *sum = (*sum < 0 ? 0 : *sum) + number; }

/* RADV's names, NVK's, Honeykrisp's (Apple) and Turnip's (Qualcomm). */
static void take_statistic(sid2_code_report *r, const char *name, double number)
{
    const struct {
        const char *name;
        double *to;
    } table[] = {
        {"VGPRs", &r->registers},
        {"Number of GPRs", &r->registers},
        {"GPRs", &r->registers},
        {"Registers used", &r->registers},
        {"SGPRs", &r->scalar_registers},
        {"Spilled VGPRs", &r->spills},
        {"Spilled SGPRs", &r->spills},
        {"Spills to memory", &r->spills},
        {"Spills to reg", &r->spills},
        {"Spills", &r->spills},
        {"STP Count", &r->spills},
        {"Scratch size", &r->scratch_bytes},
        {"SLM size", &r->scratch_bytes},
        {"Scratch", &r->scratch_bytes},
        {"LDS size", &r->shared_bytes},
        {"Instructions", &r->instructions},
        {"Instruction count", &r->instructions},
        {"Instruction Count", &r->instructions},
        {"Subgroups per SIMD", &r->subgroups},
        {"Max warps/SM", &r->subgroups},
        {"Max Waves Per Core", &r->subgroups},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(name, table[i].name) == 0) add_to(table[i].to, number);
}

static bool ask_statistics(sid2_vk_device *device, const VkPipelineExecutableInfoKHR *what,
                           sid2_code_report *r)
{
    enum { MOST = 64 };
    VkPipelineExecutableStatisticKHR list[MOST];
    uint32_t count = MOST;
    for (int i = 0; i < MOST; i++)
        list[i] =
            (VkPipelineExecutableStatisticKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    if (vkGetPipelineExecutableStatisticsKHR(device->handle, what, &count, list) < VK_SUCCESS) return false;
    for (uint32_t i = 0; i < count; i++) take_statistic(r, list[i].name, number_of(&list[i]));
    return true;
}

/* The last representation is the machine code, at both drivers. */
static bool ask_code(sid2_vk_device *device, const VkPipelineExecutableInfoKHR *what, sid2_code_report *r)
{
    enum { MOST = 16 };
    VkPipelineExecutableInternalRepresentationKHR list[MOST];
    uint32_t count = MOST;
    for (int i = 0; i < MOST; i++)
        list[i] = (VkPipelineExecutableInternalRepresentationKHR){
            .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR};
    if (vkGetPipelineExecutableInternalRepresentationsKHR(device->handle, what, &count, list) < VK_SUCCESS)
        return false;
    if (!count) return true;
    VkPipelineExecutableInternalRepresentationKHR *code = &list[count - 1];
    if (!(code->pData = calloc(code->dataSize + 1, 1))) return false;
    VkResult result = vkGetPipelineExecutableInternalRepresentationsKHR(device->handle, what, &count, list);
    if (result >= VK_SUCCESS && code->isText) sid2_vk_count_loop(code->pData, r->loop);
    free(code->pData);
    return result >= VK_SUCCESS;
}

bool sid2_vk_reports_add(sid2_vk_device *device, VkPipeline pipeline, const char *name, const char *made_for,
                         sid2_error *err)
{
    sid2_vk_reports *reports = device->reports;
    if (reports->count == reports->capacity) {
        int capacity = reports->capacity ? 2 * reports->capacity : 64;
        sid2_code_report *larger = realloc(reports->item, (size_t)capacity * sizeof *larger);
        if (!larger) return sid2_fail(err, SID2_ERR_MEMORY, "%s: out of memory", device->id);
        reports->item = larger;
        reports->capacity = capacity;
    }
    sid2_code_report r = {.registers = -1,
                          .scalar_registers = -1,
                          .spills = -1,
                          .scratch_bytes = -1,
                          .shared_bytes = -1,
                          .instructions = -1,
                          .subgroup = -1,
                          .subgroups = -1};
    snprintf(r.name, sizeof r.name, "%s", name);
    snprintf(r.made_for, sizeof r.made_for, "%s", made_for);
    VkPipelineExecutablePropertiesKHR executable = {.sType =
                                                        VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    uint32_t count = 1;
    VkResult result = vkGetPipelineExecutablePropertiesKHR(
        device->handle,
        &(VkPipelineInfoKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline}, &count,
        &executable);
    const VkPipelineExecutableInfoKHR what = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR,
                                              .pipeline = pipeline};
    if (result < VK_SUCCESS || !count || !ask_statistics(device, &what, &r) || !ask_code(device, &what, &r))
        return sid2_fail(err, SID2_ERR_DEVICE, "%s: the driver does not tell what it made of %s", device->id,
                         name);
    r.subgroup = executable.subgroupSize;
    reports->item[reports->count++] = r;
    return true;
}
