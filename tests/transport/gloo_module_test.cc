// The module that holds the gloo transport.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "ranks.h"

namespace cgx::test {
namespace {

TEST(GlooModule, AFileThatIsNoModuleIsNamed) {
  char directory[] = "/tmp/cgx-module-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  std::ofstream(std::string(directory) + "/libcgx_gloo.so") << "not a shared object";
  ::setenv("CGX_MODULE_PATH", directory, 1);
  const std::unique_ptr<Store> store = make_memory_store();
  const auto opened = open_transport("gloo", config_of(store.get(), 0, 1));
  ::unsetenv("CGX_MODULE_PATH");
  std::filesystem::remove_all(directory);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.status().code(), Code::kUnsupported);
  EXPECT_NE(opened.status().message().find(directory), std::string::npos) << opened.status().message();
}

}  // namespace
}  // namespace cgx::test
