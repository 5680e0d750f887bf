// Wrong programs, each with the exact message beside it: tests/frontend/errors/NAME.graph and NAME.expected.
// After a deliberate change of a message run with GRAPHC_UPDATE=1 and read the difference.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "frontend/frontend.h"
#include "runtime/base/file.h"

namespace graphc {
namespace {

std::string diagnose(const std::string& name, const std::string& text) {
  auto file = GraphFile::from_text(name, text);
  ElaborateOptions options;
  options.training = file->models().size() == 1 && file->models()[0].has_train;
  const bool ok = file->elaborate(options).has_value();
  EXPECT_EQ(ok, file->ok());
  EXPECT_FALSE(file->ok()) << name << " has no error";
  return file->report();
}

TEST(Errors, ExactMessages) {
  const std::filesystem::path folder = GRAPHC_SOURCE_DIR "/tests/frontend/errors";
  int programs = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".graph") continue;
    ++programs;
    const std::string name = entry.path().filename().string();
    auto text = read_file(entry.path().string());
    ASSERT_TRUE(text.ok());
    const std::string said = diagnose(name, *text);
    std::filesystem::path expected_path = entry.path();
    expected_path.replace_extension(".expected");
    if (std::getenv("GRAPHC_UPDATE")) {
      ASSERT_TRUE(atomic_write(expected_path.string(), said).ok());
    }
    auto expected = read_file(expected_path.string());
    ASSERT_TRUE(expected.ok()) << expected.error().message;
    EXPECT_EQ(said, *expected) << name;
  }
  EXPECT_GE(programs, 40);
}

}  // namespace
}  // namespace graphc
