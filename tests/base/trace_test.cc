// The trace: a file that is valid JSON whenever it is looked at, and holds the last spans.
#include "base/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

namespace cgx {
namespace {

using Json = nlohmann::json;

class Directory {
 public:
  Directory() {
    std::string name = std::filesystem::temp_directory_path() / "cgx-trace-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string file(const char* name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

Json read(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path;
  return Json::parse(file);
}

TraceSpan span_of(uint64_t operation) {
  TraceSpan span;
  span.name = "encode";
  span.operation = operation;
  span.begin_ns = 1'234'567'890 + static_cast<int64_t>(operation);
  span.end_ns = span.begin_ns + 2'001;
  return span;
}

std::vector<uint64_t> operations(const Json& trace) {
  std::vector<uint64_t> all;
  for (const Json& event : trace["traceEvents"]) {
    if (event["ph"] == "X") all.push_back(event["args"]["operation"]);
  }
  return all;
}

TEST(Trace, ASpanIsACompleteEventInMicroseconds) {
  const Directory directory;
  Trace trace({directory.file("t.json"), 1024, 3});
  TraceSpan span = span_of(10);
  span.rank = 3;
  span.peer = 1;
  span.bytes = 77;
  span.words = trace.keep("job \"x\"\n\xff");
  span.problem = trace.keep("rank 1 died");
  trace.add(span);
  trace.write();
  const Json file = read(directory.file("t.json"));
  const Json& event = file["traceEvents"].back();
  EXPECT_EQ(event["ph"], "X");
  EXPECT_EQ(event["name"], "encode");
  EXPECT_EQ(event["pid"], 3);
  EXPECT_EQ(event["tid"], gettid());
  EXPECT_DOUBLE_EQ(event["ts"].get<double>(), 1234567.9);
  EXPECT_DOUBLE_EQ(event["dur"].get<double>(), 2.001);
  EXPECT_EQ(event["args"]["bytes"], 77);
  EXPECT_EQ(event["args"]["peer"], 1);
  EXPECT_EQ(event["args"]["what"], "job \"x\"\n\uFFFD");
  EXPECT_EQ(event["args"]["error"], "rank 1 died");
  EXPECT_EQ(file["otherData"]["rank"], 3);
}

TEST(Trace, MemoryIsBoundedAndTheLastSpansAreKept) {
  const Directory directory;
  Trace trace({directory.file("t.json"), 1024, 0});
  trace.write();
  EXPECT_TRUE(operations(read(directory.file("t.json"))).empty());
  for (uint64_t i = 0; i < 1500; ++i) trace.add(span_of(i));
  trace.write();
  const Json file = read(directory.file("t.json"));
  const std::vector<uint64_t> kept = operations(file);
  ASSERT_EQ(kept.size(), 1024u);
  for (size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i], 1500 - 1024 + i);
  EXPECT_EQ(file["otherData"]["dropped"], 1500 - 1024);
  EXPECT_EQ(trace.dropped(), 1500u - 1024);
}

TEST(Trace, ThreadsMayAddWhileTheFileIsWritten) {
  const Directory directory;
  Trace trace({directory.file("t.json"), 2048, 0});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < 500; ++i) trace.add(span_of(i));
    });
  }
  for (int i = 0; i < 3; ++i) {
    trace.write();
    EXPECT_TRUE(read(directory.file("t.json")).is_object());
  }
  for (std::thread& thread : threads) thread.join();
  trace.write();
  EXPECT_EQ(operations(read(directory.file("t.json"))).size(), 2000u);
}

TEST(Trace, AFileThatCannotBeWrittenLeavesTheOldOne) {
  const Directory directory;
  EXPECT_EQ(replace_file(directory.file("a"), "one"), "");
  const std::string nowhere = directory.file("missing/a");
  EXPECT_NE(replace_file(nowhere, "two").find("cannot be made"), std::string::npos);
  std::ifstream file(directory.file("a"));
  std::string text;
  file >> text;
  EXPECT_EQ(text, "one");
}

}  // namespace
}  // namespace cgx
