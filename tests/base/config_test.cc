// The environment: who comes first, what is refused and how, and names that nobody reads.
#include "base/config.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace cgx {
namespace {

// Sets variables for one scope and puts back what was there. Those that launchers set are cleared first.
class Environment {
 public:
  explicit Environment(std::initializer_list<std::pair<const char*, const char*>> variables) {
    for (const char* name : {"CGX_RANK",
                             "CGX_SIZE",
                             "RANK",
                             "WORLD_SIZE",
                             "OMPI_COMM_WORLD_RANK",
                             "OMPI_COMM_WORLD_SIZE",
                             "PMI_RANK",
                             "PMI_SIZE",
                             "SLURM_PROCID",
                             "SLURM_NTASKS",
                             "CGX_STORE",
                             "MASTER_ADDR",
                             "MASTER_PORT",
                             "CGX_PORT",
                             "CGX_JOB",
                             "CGX_TIMEOUT_MS",
                             "CGX_LOG",
                             "CGX_DEBUG",
                             "CGX_DEBUG_SUBSYS",
                             "CGX_DEBUG_FILE"}) {
      keep(name);
      ::unsetenv(name);
    }
    for (const auto& [name, value] : variables) {
      keep(name);
      ::setenv(name, value, 1);
    }
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : before_) {
      if (value) {
        ::setenv(name.c_str(), value->c_str(), 1);
      } else {
        ::unsetenv(name.c_str());
      }
    }
  }

 private:
  void keep(const std::string& name) {
    const char* value = std::getenv(name.c_str());
    before_.emplace(name, value == nullptr ? std::nullopt : std::optional<std::string>(value));
  }
  std::map<std::string, std::optional<std::string>> before_;
};

bool contains(const Status& status, const char* text) {
  return status.message().find(text) != std::string::npos;
}

TEST(Config, OurOwnRankComesBeforeTheLaunchers) {
  const Environment environment({{"CGX_RANK", "1"},
                                 {"CGX_SIZE", "2"},
                                 {"RANK", "5"},
                                 {"WORLD_SIZE", "8"},
                                 {"PMI_RANK", "0"},
                                 {"PMI_SIZE", "1"}});
  const auto got = config::rank_and_size();
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(got->rank, 1);
  EXPECT_EQ(got->size, 2);
}

TEST(Config, EveryLauncherIsUnderstood) {
  const std::pair<const char*, const char*> pairs[] = {{"CGX_RANK", "CGX_SIZE"},
                                                       {"RANK", "WORLD_SIZE"},
                                                       {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                                       {"PMI_RANK", "PMI_SIZE"},
                                                       {"SLURM_PROCID", "SLURM_NTASKS"}};
  for (const auto& [rank, size] : pairs) {
    const Environment environment({{rank, "3"}, {size, "4"}});
    const auto got = config::rank_and_size();
    ASSERT_TRUE(got.ok()) << rank << ": " << got.status().message();
    EXPECT_EQ(got->rank, 3);
    EXPECT_EQ(got->size, 4);
    EXPECT_STREQ(got->source, rank);
  }
}

TEST(Config, HalfAPairNonsenseAndNothingAreRefusedByName) {
  {
    const Environment environment({{"RANK", "0"}});
    EXPECT_TRUE(contains(config::rank_and_size().status(), "WORLD_SIZE"));
  }
  for (const char* rank : {"2", "-1", "x", "1x", "99999999999999999999"}) {
    const Environment environment({{"RANK", rank}, {"WORLD_SIZE", "2"}});
    const Status status = config::rank_and_size().status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_TRUE(contains(status, "RANK=")) << status.message();
    EXPECT_TRUE(contains(status, "from 0 to 1")) << status.message();
  }
  const Environment environment({});
  EXPECT_TRUE(contains(config::rank_and_size().status(), "torchrun"));
}

TEST(Config, TheStoreIsNamedOrBesideTheMaster) {
  {
    const Environment environment({{"MASTER_ADDR", "host"}, {"MASTER_PORT", "29500"}});
    EXPECT_EQ(config::store_address()->host, "host");
    EXPECT_EQ(config::store_address()->port, 29501);
  }
  {
    const Environment environment({{"MASTER_ADDR", "host"}, {"MASTER_PORT", "29500"}, {"CGX_PORT", "7"}});
    EXPECT_EQ(config::store_address()->port, 7);
  }
  {
    const Environment environment(
        {{"MASTER_ADDR", "host"}, {"MASTER_PORT", "1"}, {"CGX_STORE", "file:/a:b"}});
    EXPECT_EQ(config::store_address()->kind, config::StoreAddress::Kind::kFile);
    EXPECT_EQ(config::store_address()->directory, "/a:b");
  }
  {
    const Environment environment({{"MASTER_ADDR", "host"}, {"MASTER_PORT", "65535"}});
    EXPECT_TRUE(contains(config::store_address().status(), "MASTER_PORT"));
  }
  const Environment environment({});
  EXPECT_TRUE(contains(config::store_address().status(), "CGX_STORE"));
}

TEST(Config, StoreAddressesAreParsed) {
  EXPECT_EQ(config::parse_store_address("tcp:host:12")->host, "host");
  EXPECT_EQ(config::parse_store_address("tcp:[::1]:12")->host, "::1");
  EXPECT_EQ(config::parse_store_address("tcp:::1:12")->host, "::1");
  EXPECT_EQ(config::parse_store_address("tcp:host:65535")->port, 65535);
  for (const char* wrong : {"", "file:", "tcp:", "tcp:host", "tcp:host:", "tcp::1", "tcp:host:0",
                            "tcp:host:65536", "tcp:host:1x", "tcp:[]:1", "redis:host:1"}) {
    const Status status = config::parse_store_address(wrong).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << wrong;
    EXPECT_TRUE(contains(status, "tcp:HOST:PORT")) << status.message();
  }
}

TEST(Config, TheRestHasDefaults) {
  const Environment environment({{"CGX_JOB", ""}});
  EXPECT_EQ(config::job(), "cgx");
  EXPECT_EQ(*config::timeout_ms(), 300000);
  EXPECT_EQ(config::log_settings().level, LogLevel::kWarn);
  const Environment other({{"CGX_TIMEOUT_MS", "0"}, {"CGX_JOB", "mine"}, {"CGX_DEBUG", "trace"}});
  EXPECT_TRUE(contains(config::timeout_ms().status(), "CGX_TIMEOUT_MS=\"0\""));
  EXPECT_EQ(config::job(), "mine");
  EXPECT_EQ(config::log_settings().level, LogLevel::kTrace);
}

TEST(Config, AnUnknownVariableIsAnsweredWithTheNearestOne) {
  const Environment environment({{"CGX_TIMEOUT", "5"}, {"CGX_TEST_ANYTHING", "1"}, {"CGX_DEBUG", "loud"}});
  const auto sentences = config::complaints();
  ASSERT_EQ(sentences.size(), 2u);
  EXPECT_NE(sentences[0].find("CGX_TIMEOUT "), std::string::npos) << sentences[0];
  EXPECT_NE(sentences[0].find("CGX_TIMEOUT_MS"), std::string::npos) << sentences[0];
  EXPECT_NE(sentences[1].find("\"loud\""), std::string::npos) << sentences[1];
}

TEST(Config, AVariableThatWasRenamedIsAnsweredWithItsNewName) {
  const Environment environment({{"CGX_LOG", "info"}});
  const auto sentences = config::complaints();
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_NE(sentences[0].find("it is called CGX_DEBUG now"), std::string::npos) << sentences[0];
}

TEST(Config, SubsystemsAreChosenByNameOrByWhatIsLeftOut) {
  const auto bit = [](Subsystem s) { return 1u << static_cast<uint32_t>(s); };
  const uint32_t all = (1u << kSubsystems) - 1;
  const auto chosen = [](const char* text) {
    const Environment environment({{"CGX_DEBUG_SUBSYS", text}});
    return config::log_settings().subsystems;
  };
  EXPECT_EQ(chosen(""), all);
  EXPECT_EQ(chosen("ALL"), all);
  EXPECT_EQ(chosen("INIT,net"), bit(Subsystem::kInit) | bit(Subsystem::kNet));
  EXPECT_EQ(chosen("^COLL,NET"), all & ~bit(Subsystem::kColl) & ~bit(Subsystem::kNet));
  const Environment environment({{"CGX_DEBUG_SUBSYS", "NET,RING"}});
  ASSERT_EQ(config::complaints().size(), 1u);
  EXPECT_NE(config::complaints()[0].find("no subsystem RING"), std::string::npos);
}

TEST(Config, AFilesNameMayHoldHostProcessAndRank) {
  const Environment environment({});
  EXPECT_EQ(config::expand_path("a.%r.%p", 3), fmt::format("a.3.{}", getpid()));
  EXPECT_EQ(config::expand_path("%h", 3), config::host_name());
  EXPECT_EQ(config::expand_path("100%%.%x%", 3), "100%.%x%");
  EXPECT_EQ(config::expand_path("%r", -1), "unknown");
  const Environment launched({{"RANK", "5"}, {"WORLD_SIZE", "8"}});
  EXPECT_EQ(config::expand_path("%r", -1), "5");
}

TEST(Log, LinesUpToTheLevelReachTheSink) {
  std::string lines;
  set_log([&](LogLevel level,
              const char* message) { lines += fmt::format("{}{};", static_cast<int>(level), message); },
          LogLevel::kInfo);
  log(LogLevel::kWarn, "a {}", 1);
  log(LogLevel::kInfo, "b");
  log(LogLevel::kTrace, "c");
  set_log({}, LogLevel::kWarn);
  EXPECT_EQ(lines, "1a 1;2b;");
}

TEST(Config, ASecretComesFromItsVariableOrItsFile) {
  const std::string path = testing::TempDir() + "/cgx-secret";
  std::ofstream(path) << "a secret of a file\n";
  {
    const Environment environment({{"CGX_SECRET", "a secret of sixteen"}});
    EXPECT_EQ(*config::secret(), "a secret of sixteen");
  }
  {
    const Environment environment({{"CGX_SECRET_FILE", path.c_str()}});
    EXPECT_EQ(*config::secret(), "a secret of a file");
  }
  {
    const Environment environment({{"CGX_SECRET", "a secret of sixteen"}, {"CGX_SECRET_FILE", path.c_str()}});
    EXPECT_TRUE(contains(config::secret().status(), "both set"));
  }
  {
    const Environment environment({{"CGX_SECRET_FILE", "/nonexistent/secret"}});
    EXPECT_TRUE(contains(config::secret().status(), "/nonexistent/secret"));
  }
  const Environment environment({{"CGX_SECRET", "fifteen letters"}});
  EXPECT_TRUE(contains(config::secret().status(), "16 at least"));
}

}  // namespace
}  // namespace cgx
