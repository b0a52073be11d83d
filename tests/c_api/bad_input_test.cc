// The C interface with wrong arguments: a clear error for each, and everything still works afterwards.
#include <cgx/cgx.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

// As a C program would: no enumerator has this value.
template <typename Enum>
void put_number(Enum& field, int number) {
  std::memcpy(&field, &number, sizeof(field));
}

struct Bad {
  const char* what;
  cgx_status expected;
  const char* word;  // in the message
  std::function<cgx_status()> call;
};

void expect_refused(const std::vector<Bad>& table) {
  for (const Bad& bad : table) {
    EXPECT_EQ(bad.call(), bad.expected) << bad.what << ": " << cgx_last_error();
    EXPECT_NE(std::string(cgx_last_error()).find(bad.word), std::string::npos)
        << bad.what << ": no \"" << bad.word << "\" in: " << cgx_last_error();
  }
}

// A communicator of one rank, which needs no peer and meets everything that is checked before sending.
class BadInput : public testing::Test {
 protected:
  void SetUp() override {
    cgx_config config = CGX_CONFIG_INIT;
    config.rank = 0;
    config.size = 1;
    config.transport = "local";
    ASSERT_EQ(cgx_comm_create(&config, &comm_), CGX_OK) << cgx_last_error();
    ASSERT_EQ(cgx_codec_create("maxmin:bits=4", &codec_), CGX_OK) << cgx_last_error();
    ASSERT_EQ(cgx_codec_create("topk:ratio=0.1+ef", &feedback_), CGX_OK) << cgx_last_error();
  }
  void TearDown() override {
    std::vector<float> x(8, 1.0f);
    EXPECT_EQ(reduce([&](cgx_allreduce_args&) {}), CGX_OK) << cgx_last_error();
    cgx_codec_destroy(codec_);
    cgx_codec_destroy(feedback_);
    cgx_comm_destroy(comm_);
  }
  // A good call, changed.
  cgx_status reduce(const std::function<void(cgx_allreduce_args&)>& change) {
    cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
    args.input = x_.data();
    args.output = x_.data();
    args.count = 1000;
    args.codec = codec_;
    change(args);
    return cgx_allreduce(comm_, &args);
  }
  cgx_status reduce_segments(std::vector<cgx_segment> segments) {
    return reduce([&](cgx_allreduce_args& a) {
      a.codec = nullptr;
      a.segments = segments.data();
      a.segment_count = segments.size();
    });
  }
  static cgx_status create(const std::function<void(cgx_config&)>& change) {
    cgx_config config = CGX_CONFIG_INIT;
    config.rank = 0;
    config.size = 1;
    config.transport = "local";
    change(config);
    cgx_comm* comm = nullptr;
    const cgx_status status = cgx_comm_create(&config, &comm);
    cgx_comm_destroy(comm);
    return status;
  }

  cgx_comm* comm_ = nullptr;
  cgx_codec* codec_ = nullptr;
  cgx_codec* feedback_ = nullptr;
  std::vector<float> x_ = std::vector<float>(2000, 1.0f);
};

TEST_F(BadInput, States) {
  uint64_t bytes = 0;
  char small[8] = {};
  expect_refused({
      {"no size", CGX_INVALID_ARGUMENT, "bytes is NULL",
       [&] { return cgx_comm_state_bytes(comm_, nullptr); }},
      {"nowhere to save", CGX_INVALID_ARGUMENT, "state is NULL",
       [&] { return cgx_comm_state_save(comm_, nullptr, 100); }},
      {"too little memory", CGX_INVALID_ARGUMENT, "holds 8",
       [&] { return cgx_comm_state_save(comm_, small, 8); }},
      {"nothing to load", CGX_INVALID_ARGUMENT, "state is NULL",
       [&] { return cgx_comm_state_load(comm_, nullptr, 0); }},
      {"eight bytes", CGX_CORRUPT, "only 8 bytes", [&] { return cgx_comm_state_load(comm_, small, 8); }},
  });
  ASSERT_EQ(cgx_comm_state_bytes(comm_, &bytes), CGX_OK);
  std::vector<char> state(bytes);
  EXPECT_EQ(cgx_comm_state_save(comm_, state.data(), bytes), CGX_OK);
  EXPECT_EQ(cgx_comm_state_load(comm_, state.data(), bytes), CGX_OK);
}

TEST_F(BadInput, AllreduceRefusesWrongArguments) {
  int not_a_codec[8] = {};
  expect_refused({
      {"no communicator", CGX_INVALID_ARGUMENT, "comm is NULL",
       [&] {
         cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
         return cgx_allreduce(nullptr, &args);
       }},
      {"no arguments", CGX_INVALID_ARGUMENT, "args is NULL", [&] { return cgx_allreduce(comm_, nullptr); }},
      {"null input", CGX_INVALID_ARGUMENT, "args->input",
       [&] { return reduce([](auto& a) { a.input = nullptr; }); }},
      {"null output", CGX_INVALID_ARGUMENT, "args->output",
       [&] { return reduce([](auto& a) { a.output = nullptr; }); }},
      {"overlap", CGX_INVALID_ARGUMENT, "overlap",
       [&] { return reduce([&](auto& a) { a.output = x_.data() + 999; }); }},
      {"overlap from below", CGX_INVALID_ARGUMENT, "overlap",
       [&] { return reduce([&](auto& a) { a.input = x_.data() + 1; }); }},
      {"no dtype", CGX_INVALID_ARGUMENT, "dtype 9",
       [&] { return reduce([](auto& a) { put_number(a.dtype, 9); }); }},
      {"negative dtype", CGX_INVALID_ARGUMENT, "dtype -1",
       [&] { return reduce([](auto& a) { put_number(a.dtype, -1); }); }},
      {"no op", CGX_INVALID_ARGUMENT, "op 5", [&] { return reduce([](auto& a) { put_number(a.op, 5); }); }},
      {"average of integers", CGX_UNSUPPORTED, "int32",
       [&] {
         return reduce([](auto& a) {
           a.dtype = CGX_INT32;
           a.op = CGX_AVG;
           a.codec = nullptr;
         });
       }},
      {"too many elements", CGX_UNSUPPORTED, "count",
       [&] { return reduce([](auto& a) { a.count = UINT64_MAX; }); }},
      {"negative timeout", CGX_INVALID_ARGUMENT, "timeout_ms",
       [&] { return reduce([](auto& a) { a.timeout_ms = -1; }); }},
      {"no struct_size", CGX_INVALID_ARGUMENT, "_INIT",
       [&] { return reduce([](auto& a) { a.struct_size = 0; }); }},
      {"garbage codec", CGX_INVALID_ARGUMENT, "codec",
       [&] { return reduce([&](auto& a) { a.codec = reinterpret_cast<cgx_codec*>(not_a_codec); }); }},
      {"codec and segments", CGX_INVALID_ARGUMENT, "both",
       [&] {
         const cgx_segment segment{0, 1000, nullptr, 0};
         return reduce([&](auto& a) {
           a.segments = &segment;
           a.segment_count = 1;
         });
       }},
      {"segment count without segments", CGX_INVALID_ARGUMENT, "segments",
       [&] { return reduce([](auto& a) { a.segment_count = 1; }); }},
      {"neither done nor work", CGX_INVALID_ARGUMENT, "work",
       [&] {
         cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
         return cgx_allreduce_async(comm_, &args, nullptr, nullptr, nullptr);
       }},
  });
}

TEST_F(BadInput, AllreduceRefusesWrongSegments) {
  expect_refused({
      {"gap", CGX_INVALID_ARGUMENT, "gap",
       [&] {
         return reduce_segments({{0, 400, codec_, 0}, {500, 500, codec_, 1}});
       }},
      {"overlap", CGX_INVALID_ARGUMENT, "overlap",
       [&] {
         return reduce_segments({{0, 600, codec_, 0}, {500, 500, codec_, 1}});
       }},
      {"too short", CGX_INVALID_ARGUMENT, "1000",
       [&] {
         return reduce_segments({{0, 999, codec_, 0}});
       }},
      {"too long", CGX_INVALID_ARGUMENT, "1000",
       [&] {
         return reduce_segments({{0, 1001, codec_, 0}});
       }},
      {"empty", CGX_INVALID_ARGUMENT, "empty",
       [&] {
         return reduce_segments({{0, 1000, codec_, 0}, {1000, 0, codec_, 1}});
       }},
      {"tensor id twice", CGX_INVALID_ARGUMENT, "tensor id 3",
       [&] {
         return reduce_segments({{0, 500, codec_, 3}, {500, 500, codec_, 3}});
       }},
  });
}

TEST_F(BadInput, CreationRefusesWrongConfigurations) {
  expect_refused({
      {"rank beyond size", CGX_INVALID_ARGUMENT, "rank", [] { return create([](auto& c) { c.rank = 1; }); }},
      {"rank without size", CGX_INVALID_ARGUMENT, "size",
       [] { return create([](auto& c) { c.size = -1; }); }},
      {"no ranks", CGX_INVALID_ARGUMENT, "size", [] { return create([](auto& c) { c.size = 0; }); }},
      {"too many ranks", CGX_INVALID_ARGUMENT, "16", [] { return create([](auto& c) { c.size = 17; }); }},
      {"unknown transport", CGX_INVALID_ARGUMENT, "pigeon",
       [] { return create([](auto& c) { c.transport = "pigeon"; }); }},
      {"unknown inner codec", CGX_INVALID_ARGUMENT, "guess",
       [] { return create([](auto& c) { c.inner_codec = "guess"; }); }},
      {"inner codec with error feedback", CGX_INVALID_ARGUMENT, "+ef",
       [] { return create([](auto& c) { c.inner_codec = "maxmin:bits=8+ef"; }); }},
      {"inner codec to be chosen", CGX_INVALID_ARGUMENT, "auto",
       [] { return create([](auto& c) { c.inner_codec = "auto"; }); }},
      {"inner codec whose residual would grow", CGX_INVALID_ARGUMENT, "randk",
       [] { return create([](auto& c) { c.inner_codec = "randk:ratio=0.1"; }); }},
      {"unknown algorithm", CGX_INVALID_ARGUMENT, "guess",
       [] { return create([](auto& c) { c.algorithm = "guess"; }); }},
      {"negative timeout", CGX_INVALID_ARGUMENT, "timeout_ms",
       [] { return create([](auto& c) { c.timeout_ms = -5; }); }},
      {"garbage store", CGX_INVALID_ARGUMENT, "store",
       [] {
         int not_a_store[8] = {};
         return create([&](auto& c) { c.store = reinterpret_cast<cgx_store*>(not_a_store); });
       }},
      {"nowhere to put it", CGX_INVALID_ARGUMENT, "comm is NULL",
       [] {
         cgx_config config = CGX_CONFIG_INIT;
         return cgx_comm_create(&config, nullptr);
       }},
  });
}

TEST_F(BadInput, DestroyedHandlesAreToldFromLiveOnes) {
  cgx_config config = CGX_CONFIG_INIT;
  config.rank = 0;
  config.size = 1;
  config.transport = "local";
  cgx_comm* comm = nullptr;
  ASSERT_EQ(cgx_comm_create(&config, &comm), CGX_OK) << cgx_last_error();
  cgx_codec* codec = nullptr;
  ASSERT_EQ(cgx_codec_create("natural", &codec), CGX_OK);
  cgx_comm_destroy(comm);
  cgx_codec_destroy(codec);
  uint64_t bytes = 0;
  double norm = 0;
  cgx_stats stats = CGX_STATS_INIT;
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  expect_refused({
      {"allreduce", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_allreduce(comm, &args); }},
      {"abort", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_abort(comm, "x"); }},
      {"stats", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_stats(comm, &stats); }},
      {"reset", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_reset_residuals(comm); }},
      {"norm", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_residual_norm(comm, 0, &norm); }},
      {"state's size", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_state_bytes(comm, &bytes); }},
      {"saving", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_state_save(comm, &bytes, 8); }},
      {"loading", CGX_INVALID_ARGUMENT, "destroyed", [&] { return cgx_comm_state_load(comm, &bytes, 8); }},
      {"size", CGX_INVALID_ARGUMENT, "destroyed",
       [&] { return cgx_codec_encoded_bytes(codec, CGX_FLOAT32, 10, &bytes); }},
      {"codec in a call", CGX_INVALID_ARGUMENT, "destroyed",
       [&] { return reduce([&](auto& a) { a.codec = codec; }); }},
  });
  EXPECT_EQ(cgx_comm_rank(comm), -1);
  EXPECT_EQ(cgx_comm_size(comm), -1);
  EXPECT_EQ(cgx_comm_transport(comm), nullptr);
  EXPECT_EQ(cgx_codec_spec(codec), nullptr);
  cgx_comm_destroy(comm);  // twice is harmless
  cgx_codec_destroy(codec);
}

TEST_F(BadInput, CodecsRefuseWrongArguments) {
  cgx_codec* made = nullptr;
  cgx_codec* lossless = nullptr;
  uint64_t bytes = 0;
  std::vector<uint8_t> block(8000);
  const cgx_random_key high_rank{0, 0, 0, 65536};
  const auto create = [&](const char* spec) {
    return [&made, spec] { return cgx_codec_create(spec, &made); };
  };
  expect_refused({
      {"unknown codec", CGX_INVALID_ARGUMENT, "zip", create("zip")},
      {"bits out of range", CGX_INVALID_ARGUMENT, "17", create("maxmin:bits=17")},
      {"unknown parameter", CGX_INVALID_ARGUMENT, "colour", create("maxmin:bits=4,colour=3")},
      {"empty spec", CGX_INVALID_ARGUMENT, "", create("")},
      {"no spec", CGX_INVALID_ARGUMENT, "spec is NULL", [&] { return cgx_codec_create(nullptr, &made); }},
      {"nowhere to put it", CGX_INVALID_ARGUMENT, "codec is NULL",
       [&] { return cgx_codec_create("none", nullptr); }},
      {"integers", CGX_UNSUPPORTED, "int32",
       [&] { return cgx_codec_encoded_bytes(codec_, CGX_INT32, 10, &bytes); }},
      {"nowhere for the size", CGX_INVALID_ARGUMENT, "bytes is NULL",
       [&] { return cgx_codec_encoded_bytes(codec_, CGX_FLOAT32, 10, nullptr); }},
      {"no input", CGX_INVALID_ARGUMENT, "x is NULL",
       [&] {
         return cgx_codec_encode(codec_, CGX_FLOAT32, nullptr, 1000, nullptr, block.data(), block.size());
       }},
      {"no block", CGX_INVALID_ARGUMENT, "block is NULL",
       [&] {
         return cgx_codec_encode(codec_, CGX_FLOAT32, x_.data(), 1000, nullptr, nullptr, block.size());
       }},
      {"too small a block", CGX_INVALID_ARGUMENT, "capacity",
       [&] { return cgx_codec_encode(codec_, CGX_FLOAT32, x_.data(), 1000, nullptr, block.data(), 10); }},
      {"rank in the key", CGX_INVALID_ARGUMENT, "65536",
       [&] {
         return cgx_codec_encode(codec_, CGX_FLOAT32, x_.data(), 1000, &high_rank, block.data(),
                                 block.size());
       }},
      {"error feedback", CGX_INVALID_ARGUMENT, "error feedback",
       [&] {
         return cgx_codec_encode(feedback_, CGX_FLOAT32, x_.data(), 1000, nullptr, block.data(),
                                 block.size());
       }},
      {"another size", CGX_CORRUPT, "bytes",
       [&] { return cgx_codec_decode(codec_, CGX_FLOAT32, block.data(), 11, 1000, x_.data()); }},
      {"nowhere to add to", CGX_INVALID_ARGUMENT, "out is NULL",
       [&] {
         cgx_codec_encoded_bytes(codec_, CGX_FLOAT32, 1000, &bytes);
         return cgx_codec_decode_add(codec_, CGX_FLOAT32, block.data(), bytes, 1000, nullptr);
       }},
      {"no residual", CGX_INVALID_ARGUMENT, "residual is NULL",
       [&] {
         return cgx_codec_encode_feedback(codec_, CGX_FLOAT32, x_.data(), 1000, nullptr, nullptr,
                                          block.data(), block.size());
       }},
      {"nothing to feed back", CGX_INVALID_ARGUMENT, "none",
       [&] {
         cgx_codec_create("none", &lossless);
         return cgx_codec_encode_feedback(lossless, CGX_FLOAT32, x_.data(), 1000, nullptr, x_.data(),
                                          block.data(), block.size());
       }},
  });
  cgx_codec_destroy(lossless);
  EXPECT_EQ(made, nullptr);
}

TEST(Structs, AShorterOneOfAnOlderHeaderTakesDefaultsForTheRest) {
  cgx_config config = CGX_CONFIG_INIT;
  config.rank = 0;
  config.size = 1;
  config.transport = "local";
  config.timeout_ms = -77;  // beyond the older struct: not looked at
  config.struct_size = offsetof(cgx_config, timeout_ms);
  cgx_comm* comm = nullptr;
  ASSERT_EQ(cgx_comm_create(&config, &comm), CGX_OK) << cgx_last_error();
  cgx_stats stats = CGX_STATS_INIT;
  stats.struct_size = offsetof(cgx_stats, elements);
  stats.elements = 12345;
  ASSERT_EQ(cgx_comm_stats(comm, &stats), CGX_OK) << cgx_last_error();
  EXPECT_EQ(stats.elements, 12345u) << "nothing beyond the struct is written";
  cgx_comm_destroy(comm);
}

TEST(Structs, ALongerOneOfANewerHeaderMustNotAskForWhatIsUnknown) {
  struct Newer {
    cgx_config config;
    uint64_t novelty;
  } newer = {CGX_CONFIG_INIT, 0};
  newer.config.struct_size = sizeof(Newer);
  newer.config.rank = 0;
  newer.config.size = 1;
  newer.config.transport = "local";
  cgx_comm* comm = nullptr;
  ASSERT_EQ(cgx_comm_create(&newer.config, &comm), CGX_OK) << cgx_last_error();
  cgx_comm_destroy(comm);
  newer.novelty = 1;
  EXPECT_EQ(cgx_comm_create(&newer.config, &comm), CGX_UNSUPPORTED);
  EXPECT_NE(std::string(cgx_last_error()).find("struct_size"), std::string::npos) << cgx_last_error();
}

TEST(Lists, AreJsonThatDescribesEveryRow) {
  const nlohmann::json codecs = nlohmann::json::parse(cgx_codec_list());
  ASSERT_GE(codecs.size(), 9u);
  for (const auto& codec : codecs) {
    EXPECT_TRUE(codec.at("name").is_string() && codec.at("summary").is_string() &&
                codec.at("unbiased").is_boolean());
    for (const auto& param : codec.at("params")) {
      for (const char* field : {"name", "range", "default", "meaning"})
        EXPECT_TRUE(param.at(field).is_string());
    }
  }
  const nlohmann::json algorithms = nlohmann::json::parse(cgx_algorithm_list());
  ASSERT_GE(algorithms.size(), 3u);
  for (const auto& algorithm : algorithms) EXPECT_TRUE(algorithm.at("name").is_string());
}

}  // namespace
