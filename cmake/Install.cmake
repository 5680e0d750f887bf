# cmake --install: the programs, the cpu's compiler, and for applications the runtime as static libraries:
#
#   find_package(graphc REQUIRED)
#   target_link_libraries(app PRIVATE graphc::runtime)
#
# graphc::runtime loads and runs .gcx artefacts on the cpu backend; graphc::cuda, where this build has it, adds the cuda
# backend. examples/embed uses both. Includes are written as in this
# tree: #include "runtime/executor.h".
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

add_library(graphc_application INTERFACE)
target_link_libraries(graphc_application INTERFACE graphc_runtime graphc_cpu_exec graphc_backend_registry graphc_base)
add_library(graphc::runtime ALIAS graphc_application)

set_target_properties(graphc_application PROPERTIES EXPORT_NAME runtime)
set_target_properties(graphc_runtime PROPERTIES EXPORT_NAME executor)
set_target_properties(graphc_backend_registry PROPERTIES EXPORT_NAME registry)
set_target_properties(graphc_backend_host PROPERTIES EXPORT_NAME host)
set_target_properties(graphc_cpu_exec PROPERTIES EXPORT_NAME cpu)
set_target_properties(graphc_base PROPERTIES EXPORT_NAME base)
set_target_properties(graphc_flags PROPERTIES EXPORT_NAME flags)

set(cuda)
set(cuda_folder)
if(TARGET graphc_cuda_exec)
  set(cuda graphc_cuda_exec)
  set(cuda_folder backends/cuda/exec)
  set_target_properties(graphc_cuda_exec PROPERTIES EXPORT_NAME cuda)
endif()

set(where ${CMAKE_INSTALL_LIBDIR}/cmake/graphc)
install(TARGETS graphc_application graphc_runtime graphc_backend_registry graphc_backend_host graphc_cpu_exec graphc_base graphc_flags ${cuda}
        EXPORT graphc ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/graphc COMPONENT development)
install(EXPORT graphc NAMESPACE graphc:: DESTINATION ${where} COMPONENT development)
foreach(folder runtime runtime/base runtime/data backends backends/host backends/cpu/exec ${cuda_folder})
  file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/graphc/${folder} COMPONENT development)
endforeach()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/graphcConfig.cmake.in ${PROJECT_BINARY_DIR}/graphcConfig.cmake INSTALL_DESTINATION ${where})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/graphcConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/graphcConfig.cmake ${PROJECT_BINARY_DIR}/graphcConfigVersion.cmake DESTINATION ${where}
        COMPONENT development)

install(TARGETS graphc graphc-run graphc-opt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
if(GRAPHC_LLVM)
  # Opened by graphc, which looks beside itself, in ../lib and in ../lib/graphc.
  set_target_properties(graphc_cpu_compiler PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS graphc_cpu_compiler LIBRARY DESTINATION lib/graphc COMPONENT programs)
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples DESTINATION ${CMAKE_INSTALL_DATADIR}/graphc COMPONENT programs)
