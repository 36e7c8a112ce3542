# The Vulkan backend's tests on drivers by name: on the CPU driver SwiftShader, which has the smallest limits, and
# under the validation layers with synchronisation validation, where any message fails. test_vk_ops and the others
# themselves run on whatever devices the loader lists.
set(SID2_VK_CASES 100 CACHE STRING "Random cases for each operator and type on Vulkan devices")
find_file(SWIFTSHADER_ICD vk_swiftshader_icd.json
          PATHS ${CMAKE_BINARY_DIR}/swiftshader/usr/lib/chromium /usr/lib/chromium NO_DEFAULT_PATH
          DOC "SwiftShader's driver manifest, as in the package chromium-common")
find_file(VULKAN_VALIDATION VkLayer_khronos_validation.json
          PATHS /usr/share/vulkan/explicit_layer.d /usr/local/share/vulkan/explicit_layer.d NO_DEFAULT_PATH
          DOC "The validation layer's manifest (Debian, Ubuntu: vulkan-validationlayers)")
set(swiftshader VK_ICD_FILENAMES=${SWIFTSHADER_ICD} VK_DRIVER_FILES=${SWIFTSHADER_ICD})
set(validation VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation
    VK_LAYER_ENABLES=VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT)
set(message "VUID-|SYNC-HAZARD|UNASSIGNED-|Validation (Error|Warning)")

# sid2_vulkan_test(NAME "ENVIRONMENT" COMMAND...)
function(sid2_vulkan_test name environment)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 7200 ENVIRONMENT "${environment}")
endfunction()

# The longest tests by far, for CPU drivers compile every pipeline: a process for each type, the first to begin.
math(EXPR fewer_cases "(${SID2_VK_CASES} + 4) / 5")
sid2_vulkan_test(test_vk_ops_f16 "SID2_VK_CASES=${SID2_VK_CASES};SID2_VK_TYPE=f16" test_vk_ops)
sid2_vulkan_test(test_vk_ops_bf16 "SID2_VK_CASES=${fewer_cases};SID2_VK_TYPE=bf16" test_vk_ops)
set_tests_properties(test_vk_ops PROPERTIES TIMEOUT 7200 ENVIRONMENT "SID2_VK_CASES=${SID2_VK_CASES};SID2_VK_TYPE=f32")
set_tests_properties(test_vk_ops test_vk_ops_f16 test_vk_ops_bf16 PROPERTIES COST 1000)
# The shaders that a real GPU would take, on whatever is here.
sid2_vulkan_test(test_vk_ops_as_gpu "SID2_VK_AS_GPU=1;SID2_VK_CASES=20" test_vk_ops)
# Of which few cases have enough rows for sums over parts to be joined on the way.
foreach(op linear_wgrad qk_norm_rope_grad group_norm_grad row_norm_grad)
  sid2_vulkan_test(test_vk_sums_${op} "SID2_VK_AS_GPU=1" test_vk_ops 600 ${op} f32)
endforeach()
if(SWIFTSHADER_ICD)
  sid2_vulkan_test(test_vk_ops_swiftshader "${swiftshader};SID2_VK_CASES=${fewer_cases}" test_vk_ops)
  sid2_vulkan_test(test_vk_model_swiftshader "${swiftshader}" test_vk_model)
else()
  message(STATUS "sid2: no SwiftShader, tests on it are left out (test.sh fetches it)")
endif()
if(VULKAN_VALIDATION)
  sid2_vulkan_test(test_vk_ops_validated "${validation};SID2_VK_CASES=10" test_vk_ops)
  sid2_vulkan_test(test_vk_model_validated "${validation}" test_vk_model 3)
  set_tests_properties(test_vk_ops_validated test_vk_model_validated PROPERTIES FAIL_REGULAR_EXPRESSION "${message}")
  if(SWIFTSHADER_ICD)
    sid2_vulkan_test(test_vk_ops_swiftshader_validated "${validation};${swiftshader};SID2_VK_CASES=10" test_vk_ops)
    set_tests_properties(test_vk_ops_swiftshader_validated PROPERTIES FAIL_REGULAR_EXPRESSION "${message}")
  endif()
else()
  message(STATUS "sid2: no Vulkan validation layers, tests under them are left out (vulkan-validationlayers)")
endif()

find_program(PYTHON3 python3)
# What compilers for real GPUs make of the shaders, two of AMD's (bf16 matrices are of the second) and one of NVIDIA's; tests/vk_budgets knows more.
if(PYTHON3)
  sid2_vulkan_test(test_vk_budgets "" ${PYTHON3} -B ${CMAKE_CURRENT_SOURCE_DIR}/vk_budgets $<TARGET_FILE:sid2>
                   ${CMAKE_BINARY_DIR}/gpu-drivers navi31 gfx1201 ga102)
endif()

# Cooperative matrices, on a CPU driver that has them where the system's is older.
set(elsewhere ${CMAKE_CURRENT_SOURCE_DIR}/vk_driver ${CMAKE_BINARY_DIR}/gpu-drivers lvp)
sid2_vulkan_test(test_vk_cooperative_elsewhere "" ${elsewhere} $<TARGET_FILE:test_vk_cooperative>)
sid2_vulkan_test(test_vk_ops_elsewhere "SID2_VK_AS_GPU=1;SID2_VK_CASES=3;SID2_VK_TYPE=f16" ${elsewhere} $<TARGET_FILE:test_vk_ops>)

target_link_libraries(test_vk_cooperative PRIVATE sid2_volk)
target_link_libraries(test_vk_failures PRIVATE sid2_volk)
# Under the layers of that folder, for the system's are too old to see memory that a shader strays into.
add_executable(short_bindings short_bindings.c)
target_link_libraries(short_bindings PRIVATE sid2_cpu sid2_vk sid2_volk)
sid2_vulkan_test(test_vk_assisted "" bash ${CMAKE_CURRENT_SOURCE_DIR}/test_vk_assisted.sh ${CMAKE_BINARY_DIR}/gpu-drivers
                 ${CMAKE_CURRENT_BINARY_DIR})

target_link_libraries(test_vk_kept PRIVATE sid2_volk)
target_link_libraries(test_vk_large PRIVATE sid2_volk)
target_link_libraries(test_vk_quirks PRIVATE sid2_volk)
# Guards between the tensors of scratch are put there by the test.
target_link_libraries(test_vk_bounds PRIVATE sid2_volk)
target_include_directories(test_vk_bounds PRIVATE ${CMAKE_SOURCE_DIR}/shaders)
target_link_options(test_vk_bounds PRIVATE -Wl,--wrap=sid2_vk_scratch)
sid2_vulkan_test(test_vk_bounds_as_gpu "SID2_VK_AS_GPU=1" test_vk_bounds)

# The program on a device that is lost: a loader between it and the system's says so.
find_library(SID2_VULKAN_LOADER NAMES libvulkan.so.1 DOC "The Vulkan loader (Debian, Ubuntu: libvulkan1)")
add_library(lost_vulkan SHARED lost_vulkan.c)
set_target_properties(lost_vulkan PROPERTIES OUTPUT_NAME vulkan SOVERSION 1
                      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/lost)
target_include_directories(lost_vulkan PRIVATE $<TARGET_PROPERTY:sid2_volk,INTERFACE_INCLUDE_DIRECTORIES>)
target_link_libraries(lost_vulkan PRIVATE ${CMAKE_DL_LIBS})
sid2_vulkan_test(test_vk_reopen "" bash ${CMAKE_CURRENT_SOURCE_DIR}/test_vk_reopen.sh $<TARGET_FILE:sid2>
                 $<TARGET_FILE_DIR:lost_vulkan> ${SID2_VULKAN_LOADER})

# The SPIR-V in the tree is what the compiler named in VERSION makes of the sources.
sid2_vulkan_test(test_shaders "" bash ${CMAKE_CURRENT_SOURCE_DIR}/test_shaders.sh ${CMAKE_SOURCE_DIR}/shaders)
