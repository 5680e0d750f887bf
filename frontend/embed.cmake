# Writes OUT, a C++ file with the texts of FILES as raw strings.
set(body "")
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  file(READ ${file} text)
  string(APPEND body "      {\"std/${name}\", R\"graphc~(${text})graphc~\"},\n")
endforeach()
file(WRITE ${OUT} "// Generated from frontend/std/*.graph.\n#include \"frontend/unit.h\"\n\nnamespace graphc {\n\nstd::vector<StdSource> std_sources() {\n  return {\n${body}  };\n}\n\n}  // namespace graphc\n")
