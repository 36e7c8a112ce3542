/* What a driver's compiler made of pipelines, as VK_KHR_pipeline_executable_properties tells it: numbers under the names of
 * each driver, and machine code as text, of which the hottest loop is counted. */
#ifndef SID2_VK_REPORT_H
#define SID2_VK_REPORT_H

#include "context.h"
#include "device.h"

enum {
    SID2_VK_REPORT_FLAGS = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR |
                           VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR
};

typedef struct sid2_vk_reports sid2_vk_reports;

/* UNSUPPORTED where the device's driver does not tell. */
sid2_vk_reports *sid2_vk_reports_create(const sid2_vk_device *device, sid2_error *err);
void sid2_vk_reports_destroy(sid2_vk_reports *reports); /* NULL is fine */
bool sid2_vk_reports_add(sid2_vk_device *device, VkPipeline pipeline, const char *name, const char *made_for,
                         sid2_error *err);
const sid2_code_report *sid2_vk_reports_at(const sid2_vk_reports *reports, int i); /* NULL past the last */

/* Counts the hottest loop of machine code as RADV and NVK print it: of the innermost loops the one with most matrix
 * instructions, else with most multiply-adds, else the longest. */
void sid2_vk_count_loop(const char *code, int loop[SID2_CODE_KINDS]);

#endif
