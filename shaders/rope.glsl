// Heads of queries and keys as pairs of elements that turn together; core/rotary.h.

// Elements of pair number `pair` of a head, given the pairs of the parts for frame, row and column. Past the
// parts come neighbours, which do not turn.
uvec2 pair_elements(uint pair, uint frame_pairs, uint side_pairs)
{
    uint turning = frame_pairs + 2 * side_pairs;
    if (pair >= turning) return uvec2(2 * pair, 2 * pair + 1);
    uint first = 0, width = frame_pairs;
    if (pair >= frame_pairs) {
        width = side_pairs;
        first = frame_pairs + (pair - frame_pairs) / side_pairs * side_pairs;
    }
    uint a = 2 * first + (pair - first);
    return uvec2(a, a + width);
}

vec2 rotate(vec2 v, vec2 turn) { return vec2(v.x * turn.x - v.y * turn.y, v.x * turn.y + v.y * turn.x); }
