# graphc_embed(TARGET FUNCTION FILES...): the files' texts travel inside TARGET, as
#   std::vector<EmbeddedFile> graphc::FUNCTION();      // declared by its user; runtime/base/embedded_file.h
function(graphc_embed target function)
  set(out ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp)
  add_custom_command(OUTPUT ${out} DEPENDS ${ARGN} ${PROJECT_SOURCE_DIR}/cmake/embed_files.cmake
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DFUNCTION=${function} "-DFILES=${ARGN}" -P ${PROJECT_SOURCE_DIR}/cmake/embed_files.cmake VERBATIM)
  target_sources(${target} PRIVATE ${out})
endfunction()
