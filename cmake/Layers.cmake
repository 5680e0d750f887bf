# graphc_layer(NAME DIRS dir... LINK target...): a static library of all *.cpp in the given folders.
# The link list is also the list of layers it may include; tests/layering/check.py holds the same rule on includes.
find_package(fmt REQUIRED)
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(nlohmann_json REQUIRED)

add_library(graphc_flags INTERFACE)
target_include_directories(graphc_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>
  $<INSTALL_INTERFACE:include/graphc>)
target_compile_features(graphc_flags INTERFACE cxx_std_20)
# -ffp-contract=off: results must not depend on what the host compiler chose to fuse.
target_compile_options(graphc_flags INTERFACE $<BUILD_INTERFACE:-Wall;-Wextra;-Wno-unused-parameter;-Wno-missing-field-initializers;-ffp-contract=off;-fno-omit-frame-pointer;-fvisibility=hidden>)
target_link_libraries(graphc_flags INTERFACE fmt::fmt Threads::Threads)
if(GRAPHC_SANITIZE)
  target_compile_options(graphc_flags INTERFACE -fsanitize=${GRAPHC_SANITIZE} -fno-sanitize-recover=undefined)
  target_link_options(graphc_flags INTERFACE -fsanitize=${GRAPHC_SANITIZE})
endif()

function(graphc_layer name)
  cmake_parse_arguments(A "" "" "DIRS;LINK;PRIVATE" ${ARGN})
  set(sources)
  foreach(dir ${A_DIRS})
    file(GLOB found CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.cpp)
    list(APPEND sources ${found})
  endforeach()
  if(sources)
    add_library(${name} STATIC ${sources})
    target_link_libraries(${name} PUBLIC graphc_flags ${A_LINK} PRIVATE ${A_PRIVATE})
  else()
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE graphc_flags ${A_LINK})
  endif()
endfunction()

# graphc_flatbuffer(TARGET schema.fbs): generates <build>/<dir>/<schema>_generated.h and makes TARGET depend on it.
find_program(GRAPHC_FLATC flatc REQUIRED)
function(graphc_flatbuffer target schema)
  get_filename_component(stem ${schema} NAME_WE)
  file(RELATIVE_PATH rel ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR})
  set(out ${PROJECT_BINARY_DIR}/${rel}/${stem}_generated.h)
  add_custom_command(OUTPUT ${out} DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${schema}
    COMMAND ${GRAPHC_FLATC} --cpp --scoped-enums -o ${PROJECT_BINARY_DIR}/${rel} ${CMAKE_CURRENT_SOURCE_DIR}/${schema})
  add_custom_target(${target}_${stem}_fbs DEPENDS ${out})
  add_dependencies(${target} ${target}_${stem}_fbs)
endfunction()
