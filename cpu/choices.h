/* Which of two ways goes first where there are both: own loops or oneDNN. */
#ifndef SID2_CPU_CHOICES_H
#define SID2_CPU_CHOICES_H

#include "op.h"

enum { SID2_CPU_F32, SID2_CPU_BF16 }; /* calls of f32 alone; calls with any bf16 */

typedef struct sid2_cpu_choices {
    bool ahead
        [2]
        [SID2_OP_COUNT]; /* own loops: of a 3 x 3 convolution by Winograd, of a linear layer as f32 products */
} sid2_cpu_choices;

/* Whether bf16 is faster than f32 by rule: where its products are. */
bool sid2_cpu_bf16_is_fast(void);

/* What is faster by rule, from what the processor is. */
sid2_cpu_choices sid2_cpu_default_choices(void);

/* All choices as one number, of a bit for each family of products (set: own loops): linear layers in f32, in bf16,
 * 3 x 3 convolutions in f32, in bf16; and as the name by which `sid2 tune` knows it: "linear f32 library, bf16 own; ...". */
enum { SID2_CPU_FAMILIES = 4, SID2_CPU_NAMES = 1 << SID2_CPU_FAMILIES };
const char *sid2_cpu_choices_name(int i);
int sid2_cpu_choices_number(const sid2_cpu_choices *choices);
/* False: there is no such name. */
bool sid2_cpu_choose(sid2_cpu_choices *choices, const char *name);

#endif
