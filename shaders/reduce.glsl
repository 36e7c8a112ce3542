// group_sum(v): the sum of v over the invocations of a group, whose number is a power of two up to 256. Always
// in the same order. With subgroup arithmetic a group that is one subgroup needs no shared memory.
#ifdef SID2_SUBGROUP
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
shared vec2 reduce_parts[256];

vec2 group_sum(vec2 v)
{
#ifdef SID2_SUBGROUP
    v = subgroupAdd(v);
    if (gl_NumSubgroups == 1) return v;
    if (subgroupElect()) reduce_parts[gl_SubgroupID] = v;
    barrier();
    v = vec2(0);
    for (uint i = 0; i < gl_NumSubgroups; i++) v += reduce_parts[i];
#else
    uint me = gl_LocalInvocationIndex;
    reduce_parts[me] = v;
    barrier();
    for (uint half_ = gl_WorkGroupSize.x / 2; half_ > 0; half_ /= 2) {
        if (me < half_) reduce_parts[me] += reduce_parts[me + half_];
        barrier();
    }
    v = reduce_parts[0];
#endif
    barrier(); // before the next sum overwrites
    return v;
}
