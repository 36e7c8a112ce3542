/* Random calls of one operator: shapes, attributes and how to fill the inputs. For sid2_opcheck. */
#ifndef SID2_OPCASE_H
#define SID2_OPCASE_H

#include "op.h"

/* Numbers drawn from Philox, element after element. */
typedef struct sid2_draw {
    uint64_t seed, sample, next;
} sid2_draw;
uint32_t sid2_draw_word(sid2_draw *draw);
double sid2_draw_uniform(sid2_draw *draw); /* in (0,1) */
double sid2_draw_normal(sid2_draw *draw);

typedef enum sid2_fill {
    SID2_FILL_NORMAL,  /* mean a, standard deviation b */
    SID2_FILL_UNIFORM, /* between a and b */
    SID2_FILL_INTEGER, /* a .. b */
    SID2_FILL_WORDS,   /* any 32 bits */
    SID2_FILL_FORWARD, /* output number a of the forward operator */
} sid2_fill;

typedef struct sid2_opcase_input {
    sid2_type type; /* rank -1: absent */
    sid2_fill fill;
    double a, b;
} sid2_opcase_input;

typedef struct sid2_opcase {
    sid2_op op;
    sid2_attr attr;
    sid2_opcase_input in[SID2_MAX_INPUTS];
    sid2_type out[SID2_MAX_OUTPUTS];
    bool wanted[SID2_MAX_OUTPUTS];
    int alias[SID2_MAX_OUTPUTS];        /* the input that this output overwrites, or -1 */
    double magnitude[SID2_MAX_OUTPUTS]; /* of the terms an element is summed from, where that can be much
                                           larger than the element itself */
    int64_t length[SID2_MAX_OUTPUTS];   /* terms summed into an element */
    sid2_op forward;                    /* makes the inputs filled by SID2_FILL_FORWARD ... */
    int forward_in[SID2_MAX_INPUTS];    /* ... from these inputs of this case; -1: absent */
} sid2_opcase;

/* Draws a valid case for activations and matrices of type `compute` (f32, bf16 or f16). */
bool sid2_opcase_draw(sid2_op op, sid2_dtype compute, sid2_draw *draw, sid2_opcase *c, sid2_error *err);

#endif
