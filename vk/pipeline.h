/* Pipelines: a shader with its constants, compiled by the driver. Kept for the life of the device, for shapes
 * are push constants and few differ; and through the driver's cache on disk, for its next. */
#ifndef SID2_VK_PIPELINE_H
#define SID2_VK_PIPELINE_H

#include "context.h"
#include "lower.h"

typedef struct sid2_vk_pipelines sid2_vk_pipelines;

sid2_vk_pipelines *sid2_vk_pipelines_create(sid2_vk_device *device, sid2_error *err);
void sid2_vk_pipelines_destroy(sid2_vk_device *device, sid2_vk_pipelines *pipelines);

int sid2_vk_shader_bindings(sid2_vk_shader shader);
const char *sid2_vk_shader_name(sid2_vk_shader shader);
bool sid2_vk_shader_reads(sid2_vk_shader shader, int binding);
bool sid2_vk_shader_writes(sid2_vk_shader shader, int binding);
/* Whether the dispatch reads this binding through a texel buffer. */
bool sid2_vk_reads_texels(const sid2_vk_device *device, const sid2_vk_dispatch *dispatch, int binding);

/* The pipeline for a dispatch: made at the first asking. */
bool sid2_vk_pipeline_for(sid2_vk_device *device, const sid2_vk_dispatch *dispatch, VkPipeline *pipeline,
                          sid2_error *err);
/* By shader, and by whether it reads texels. */
VkDescriptorSetLayout sid2_vk_set_layout(const sid2_vk_device *device, const sid2_vk_dispatch *dispatch);
VkPipelineLayout sid2_vk_pipeline_layout(const sid2_vk_device *device, const sid2_vk_dispatch *dispatch);

#endif
