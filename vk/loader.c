/* volk: finds the Vulkan loader when the program runs, so that sid2 neither links to one nor needs one. */
#define VOLK_IMPLEMENTATION
#include <volk.h>
