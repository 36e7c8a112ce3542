/* Programs: a graph on a device, recorded once and resubmitted.
 *
 * Compiling lowers every node to dispatches, then makes pipelines and descriptor sets, and records command
 * buffers: a dispatch that would take long as several with a base, a program that would take long as several
 * submissions, since desktops reset a device that is silent for seconds; and a barrier before each dispatch
 * that meets memory of an earlier one. Running submits; nothing waits. What is made of weights alone
 * stays where the program has no gradients: kept.h. */
#ifndef SID2_VK_PROGRAM_H
#define SID2_VK_PROGRAM_H

#include "buffer.h"
#include "device.h"

typedef struct sid2_vk_program sid2_vk_program;

/* Operands lie in a sid2_vk_memory each; scratch in the arena, or its own where that is NULL. Frees the steps: they
 * are lowered. */
sid2_vk_program *sid2_vk_program_create(sid2_vk_device *device, sid2_steps *steps, sid2_arena *arena,
                                        sid2_error *err);
/* Makes the pipelines of the steps and nothing else. Frees the steps. */
bool sid2_vk_program_compile(sid2_vk_device *device, sid2_steps *steps, sid2_error *err);
void sid2_vk_program_destroy(sid2_vk_device *device, sid2_vk_program *program);
bool sid2_vk_program_run(sid2_vk_device *device, sid2_vk_program *program, int section, sid2_error *err);
/* Switches timing on: from now on each run waits and adds the time of each node; NULL where the device has no
 * clock or memory runs out. Time of nodes that overlap counts for the later one. */
const sid2_node_time *sid2_vk_program_profile(sid2_vk_device *device, sid2_vk_program *program);
size_t sid2_vk_program_workspace(const sid2_vk_program *program); /* bytes beside the arena */

#endif
