# How each dependency is found. Nothing is copied into the tree; see README.md here for the packages.
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(PkgConfig REQUIRED)
# What libsid2 is made of: a name here, and its modules there.
set(SID2_LIBRARIES "") # all of them, as targets and as modules
set(SID2_PRIVATE_MODULES "")
foreach(library "PNG libpng" "JPEG libturbojpeg libjpeg" "WEBP libwebp libwebpmux libwebpdemux" "EXIF libexif"
        "ARCHIVE libarchive" "ZIP libzip" "ZLIB zlib" "JANSSON jansson" "PROTOBUF_C libprotobuf-c" "XXHASH libxxhash"
        "UTF8PROC libutf8proc" "INIH inih")
  separate_arguments(library)
  list(POP_FRONT library name)
  pkg_check_modules(${name} REQUIRED IMPORTED_TARGET ${library})
  list(APPEND SID2_LIBRARIES PkgConfig::${name})
  list(APPEND SID2_PRIVATE_MODULES ${library})
endforeach()
find_program(PROTOC_C protoc-c REQUIRED) # of the machine that builds
pkg_check_modules(MICROHTTPD REQUIRED IMPORTED_TARGET libmicrohttpd) # the program's
pkg_check_modules(NETTLE REQUIRED IMPORTED_TARGET nettle) # likewise
pkg_check_modules(LAPACKE REQUIRED IMPORTED_TARGET lapacke) # eval/'s, which is the program's

# oneDNN: its own CMake package fails without OpenCL headers, so header and library are found directly.
# Both API generations are supported (2.6 and 3.x). Without it the CPU backend uses its own loops.
option(SID2_ONEDNN "Use oneDNN for matrix products and convolutions on the CPU" ON)
set(SID2_HAVE_ONEDNN OFF)
if(SID2_ONEDNN)
  find_path(DNNL_INCLUDE_DIR dnnl.h PATH_SUFFIXES oneapi/dnnl)
  find_library(DNNL_LIBRARY dnnl)
  if(DNNL_INCLUDE_DIR AND DNNL_LIBRARY)
    set(SID2_HAVE_ONEDNN ON)
    add_library(sid2_dnnl INTERFACE)
    target_include_directories(sid2_dnnl INTERFACE ${DNNL_INCLUDE_DIR})
    target_link_libraries(sid2_dnnl INTERFACE ${DNNL_LIBRARY})
    message(STATUS "sid2: CPU matrix products and convolutions through oneDNN (${DNNL_LIBRARY})")
    # oneDNN throws where memory ends, and only C++ catches (cpu/guard.h).
    include(CheckLanguage)
    check_language(CXX)
    if(CMAKE_CXX_COMPILER)
      enable_language(CXX)
    else()
      message(STATUS "sid2: no C++ compiler: a want of memory within oneDNN ends the program (Debian, Ubuntu: g++)")
    endif()
  else()
    message(STATUS "sid2: oneDNN not found: CPU matrix products and convolutions use sid2's own loops, "
                   "by processor and type up to twice as slow (Debian, Ubuntu: libdnnl-dev)")
  endif()
endif()

# Vulkan: headers and volk's source, nothing to link. The loader is opened when the program runs, and no driver is
# needed to build or to start.
option(SID2_VULKAN "Build the Vulkan backend" ON)
set(SID2_HAVE_VULKAN OFF)
if(SID2_VULKAN)
  find_path(VULKAN_INCLUDE_DIR vulkan/vulkan_core.h)
  find_path(VOLK_INCLUDE_DIR volk.c PATH_SUFFIXES volk)
  if(VULKAN_INCLUDE_DIR AND VOLK_INCLUDE_DIR)
    set(SID2_HAVE_VULKAN ON)
    add_library(sid2_volk INTERFACE)
    target_include_directories(sid2_volk SYSTEM INTERFACE ${VULKAN_INCLUDE_DIR} ${VOLK_INCLUDE_DIR})
    message(STATUS "sid2: Vulkan backend (${VOLK_INCLUDE_DIR}/volk.h)")
  else()
    message(STATUS "sid2: no Vulkan backend: headers or volk not found (Debian, Ubuntu: libvulkan-dev libvulkan-volk-dev)")
  endif()
endif()

# MPI between processes: a module for each implementation that is here, opened when a training has several ranks.
option(SID2_MPI "Build the modules for MPI" ON)
if(SID2_MPI)
  pkg_check_modules(MPICH IMPORTED_TARGET mpich)
  pkg_check_modules(OMPI-C IMPORTED_TARGET ompi-c)
  if(NOT MPICH_FOUND AND NOT OMPI-C_FOUND)
    message(STATUS "sid2: no MPI: trainings have one process on the CPU (Debian, Ubuntu: libmpich-dev or libopenmpi-dev)")
  endif()
endif()
