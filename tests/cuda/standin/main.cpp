// Tests whose CUDA is the stand-in.
#include <gtest/gtest.h>

#include <cstdlib>

int main(int argc, char** argv) {
  ::setenv("GRAPHC_CUDA_LIBRARIES", STANDIN_LIBRARIES, 1);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
