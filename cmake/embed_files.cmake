# Writes OUT, a C++ file with the names and texts of FILES; run by graphc_embed.
set(body "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(APPEND body "      {\"${name}\", R\"graphc~(${text})graphc~\"},\n")
endforeach()
file(WRITE ${OUT} "// Generated from ${FILES}.\n#include \"runtime/base/embedded_file.h\"\n\nnamespace graphc {\n\nstd::vector<EmbeddedFile> ${FUNCTION}();\nstd::vector<EmbeddedFile> ${FUNCTION}() {\n  return {\n${body}  };\n}\n\n}  // namespace graphc\n")
