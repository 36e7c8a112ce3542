/* The SPIR-V modules of shaders/spirv, embedded when sid2 is built (shaders/embed.cmake). */
#ifndef SID2_VK_MODULES_H
#define SID2_VK_MODULES_H

#include "base.h"

typedef struct sid2_vk_module {
    const char *name; /* "scale_16"; NULL ends the table */
    const uint32_t *words;
    size_t bytes;
} sid2_vk_module;

extern const sid2_vk_module sid2_vk_modules[];

#endif
