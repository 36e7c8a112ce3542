#include "guard.h"

bool sid2_guard(void (*work)(void *user), void *user)
{
    try {
        work(user);
        return true;
    } catch (...) {
        return false;
    }
}
