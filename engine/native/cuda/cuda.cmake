# The CUDA backend: one shared object beside the addon, with the CUDA runtime inside. Without nvcc the build goes on.
#   -DCUDA=OFF            leave it out
#   -DCUDA_RELEASE=ON     machine code for every supported architecture, and PTX for later ones
#   -DCUDA_ARCHITECTURES  otherwise, what to compile for
option(CUDA "Build the CUDA backend when nvcc is there" ON)
option(CUDA_RELEASE "Compile for all architectures of the release" OFF)
option(SMALL_SHAPES "GPU tests of the sizes that an emulated GPU runs, for checkers" OFF)
set(CUDA_ARCHITECTURES 90a-real CACHE STRING "Architectures of a build that is no release")

if(NOT CUDA)
  return()
endif()
if(CUDA_RELEASE)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 89-real 90a-real 100-real 120-real 80-virtual)
else()
  set(CMAKE_CUDA_ARCHITECTURES ${CUDA_ARCHITECTURES})
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  message(STATUS "nvcc not found: building without the CUDA backend")
  return()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
# CMake 3.25 does not know how this nvcc is asked for C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)

file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS core/check.cpp cuda/backend/*.cpp cuda/model/*.cu cuda/device/*.cpp cuda/weights/*.cpp
     cuda/weights/*.cu cuda/ops/*.cu cuda/decode/*.cpp cuda/decode/*.cu cuda/prefill/*.cpp cuda/prefill/*.cu
     cuda/nsa/*.cpp cuda/nsa/*.cu cuda/narrow/*.cu)
add_library(cuda_kernels OBJECT ${CUDA_SOURCES})
target_include_directories(cuda_kernels PRIVATE include)
if(CMAKE_CUDA_ARCHITECTURES MATCHES "90a")
  set_source_files_properties(cuda/device/device.cpp PROPERTIES COMPILE_DEFINITIONS EK_GROUP_PRODUCTS)
endif()
target_include_directories(cuda_kernels SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_compile_options(cuda_kernels PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings --expt-relaxed-constexpr -Xcompiler -Wall,-Wextra,-Werror>")

add_library(tidepool_cuda MODULE cuda/plugin.cpp $<TARGET_OBJECTS:cuda_kernels>)
target_include_directories(tidepool_cuda PRIVATE include)
target_include_directories(tidepool_cuda SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(tidepool_cuda PRIVATE CUDA::cudart_static)
set_target_properties(tidepool_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_link_options(tidepool_cuda PRIVATE -static-libstdc++ -static-libgcc -Wl,--exclude-libs,ALL)

# Programs that run on a GPU; they link the kernels themselves, and reach the ops through the C ABI as well. Tests are
# left out of a plain build: all of them are compiled for the emulated GPU there, and run. scripts/gpu.sh builds them.
file(GLOB CUDA_TESTS CONFIGURE_DEPENDS tests/cuda_*.cpp)
list(FILTER CUDA_TESTS EXCLUDE REGEX "_test\\.cpp$")
file(GLOB CUDA_BENCHES CONFIGURE_DEPENDS bench/cuda_*.cpp)
add_library(cuda_references OBJECT EXCLUDE_FROM_ALL tests/attention_model.cpp tests/host_matrix.cpp
            tests/lite_reference.cpp tests/narrow_reference.cpp tests/nsa_reference.cpp)
target_include_directories(cuda_references PRIVATE include)
target_include_directories(cuda_references SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
foreach(source ${CUDA_TESTS} ${CUDA_BENCHES})
  get_filename_component(name ${source} NAME_WE)
  add_executable(${name} ${source} $<TARGET_OBJECTS:cuda_kernels>)
  target_include_directories(${name} SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(${name} PRIVATE kernels CUDA::cudart_static)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  add_dependencies(${name} tidepool_cuda)
  if(source IN_LIST CUDA_TESTS)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:cuda_references>)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    if(SMALL_SHAPES)
      target_compile_definitions(${name} PRIVATE EK_SMALL_SHAPES)
    endif()
  endif()
endforeach()
