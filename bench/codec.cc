// Encode and decode of one thread, with a memcpy of the same elements in the same rounds: absolute times
// drift with the machine's other load, ratios taken side by side do not.
#include "codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "accuracy.h"
#include "contender.h"
#include "data.h"
#include "report.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

enum Work { kEncode, kDecode, kCopy, kWorks };

class CodecRun {
 public:
  CodecRun(const Options& options, const std::vector<Buffer>& tensors, const std::string& spec)
      : options_(options),
        tensors_(tensors),
        codec_(make_codec(spec)),
        bytes_(tensors[0].bytes()),
        count_(bytes_ / dtype_bytes(options.dtype)) {
    require_ok(cgx_codec_encoded_bytes(codec_.get(), options.dtype, count_, &block_bytes_), spec);
    for (size_t b = 0; b < tensors_.size(); ++b) {
      blocks_.emplace_back(block_bytes_);
      decoded_.emplace_back(std::max(count_ * sizeof(float), bytes_));
      encode(b, 0);
    }
  }

  json measure() {
    for (int w = 0; w < options_.warmup; ++w) {
      for (int work = 0; work < kWorks; ++work) timed(static_cast<Work>(work));
    }
    std::vector<double> times[kWorks];
    for (int round = 0; round < options_.rounds; ++round) {
      for (int k = 0; k < kWorks; ++k) {
        const auto work = static_cast<Work>((k + round) % kWorks);
        double sum = 0;
        for (int i = 0; i < options_.iterations; ++i) sum += timed(work);
        times[work].push_back(sum / options_.iterations);
      }
    }
    const Accuracy accuracy = check();
    const bool checked = options_.checks > 0;
    json row = {{"size_bytes", bytes_},
                {"count", count_},
                {"type", dtype_name(options_.dtype)},
                {"codec", cgx_codec_spec(codec_.get())},
                {"unbiased", cgx_codec_unbiased(codec_.get()) != 0},
                {"encoded_bytes", block_bytes_},
                {"ratio", static_cast<double>(bytes_) / static_cast<double>(block_bytes_)},
                {"cache", options_.warm_cache ? "warm" : "cold"}};
    const char* const names[kWorks] = {"encode", "decode", "memcpy"};
    for (int work = 0; work < kWorks; ++work) {
      const std::string name = names[work];
      row[name + "_us"] = median(times[work]);
      row[name + "_GBps"] = static_cast<double>(bytes_) / median(times[work]) / 1000;
    }
    row["encode_over_memcpy"] = ratio(times[kCopy], times[kEncode]);
    row["decode_over_memcpy"] = ratio(times[kCopy], times[kDecode]);
    row["wrong"] = checked ? json(accuracy.wrong) : json(nullptr);
    row["nmse"] = checked ? json(accuracy.nmse()) : json(nullptr);
    row["bias_z"] = checked ? json(accuracy.bias_z()) : json(nullptr);
    return row;
  }

 private:
  void encode(size_t b, uint32_t operation) {
    const cgx_random_key key = {options_.seed, operation, 0, 0};
    require_ok(cgx_codec_encode(codec_.get(), options_.dtype, tensors_[b].data(), count_, &key,
                                blocks_[b].data(), block_bytes_),
               "encode");
  }
  void decode(size_t b) {
    require_ok(cgx_codec_decode(codec_.get(), options_.dtype, blocks_[b].data(), block_bytes_, count_,
                                static_cast<float*>(decoded_[b].data())),
               "decode");
  }

  double timed(Work work) {
    const size_t b = turn_++ % tensors_.size();
    const auto start = std::chrono::steady_clock::now();
    switch (work) {
      case kEncode:
        encode(b, static_cast<uint32_t>(turn_));
        break;
      case kDecode:
        decode(b);
        break;
      default:
        std::memcpy(decoded_[b].data(), tensors_[b].data(), bytes_);
        break;
    }
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
  }

  static double ratio(const std::vector<double>& numerator, const std::vector<double>& denominator) {
    std::vector<double> ratios;
    for (size_t r = 0; r < numerator.size(); ++r) ratios.push_back(numerator[r] / denominator[r]);
    return median(ratios);
  }

  Accuracy check() {
    Accuracy accuracy;
    if (options_.checks == 0) return accuracy;
    const DeclaredBound bound(cgx_codec_spec(codec_.get()), options_.dtype);
    const uint64_t span = bound.granule() == 0 ? count_ : 1 << 20;
    for (int c = 0; c < options_.checks; ++c) {
      const size_t b = static_cast<size_t>(c) % tensors_.size();
      encode(b, 1000000 + static_cast<uint32_t>(c));
      decode(b);
      for (uint64_t at = 0; at < count_; at += span)
        check_span(bound, b, at, std::min(span, count_ - at), accuracy);
    }
    return accuracy;
  }

  void check_span(const DeclaredBound& bound, size_t b, uint64_t first, uint64_t count, Accuracy& accuracy) {
    Expected expected;
    expected.exact.resize(count);
    to_doubles(options_.dtype,
               static_cast<const char*>(tensors_[b].data()) + first * dtype_bytes(options_.dtype),
               expected.exact);
    for (const double x : expected.exact) expected.bound.push_back({x, x});
    bound.widen(expected.bound);
    std::vector<double> result(count);
    to_doubles(CGX_FLOAT32, static_cast<const float*>(decoded_[b].data()) + first, result);
    accuracy.add(result, expected);
  }

  const Options& options_;
  const std::vector<Buffer>& tensors_;
  CodecPtr codec_;
  uint64_t bytes_, count_;
  uint64_t block_bytes_ = 0;
  std::vector<Buffer> blocks_, decoded_;
  uint64_t turn_ = 0;
};

std::vector<Buffer> make_tensors(const Options& options, const Source& source, uint64_t bytes) {
  const int buffers = options.warm_cache ? 1 : rotation(bytes);
  std::vector<Buffer> out;
  for (int b = 0; b < buffers; ++b) {
    out.emplace_back(bytes);
    source.fill(0, b, 0, bytes / dtype_bytes(options.dtype), options.dtype, out.back().data());
  }
  return out;
}

void print(const std::vector<Column>& columns, const json& row, const std::string& name) {
  const auto number = [&](const char* key) {
    return row[key].is_null() ? std::string("-") : short_number(row[key].get<double>());
  };
  print_row(columns,
            {std::to_string(row["size_bytes"].get<uint64_t>()), std::to_string(row["count"].get<uint64_t>()),
             row["type"], name, number("encode_us"), number("encode_GBps"), number("decode_us"),
             number("decode_GBps"), number("memcpy_GBps"), number("encode_over_memcpy"),
             number("decode_over_memcpy"),
             row["wrong"].is_null() ? "N/A" : std::to_string(row["wrong"].get<uint64_t>()), number("ratio"),
             std::to_string(row["encoded_bytes"].get<uint64_t>()), number("nmse"), number("bias_z")});
}

}  // namespace

int run_codec(const Options& options) {
  if (!options.cpu_path.empty() && cgx_set_cpu_path(options.cpu_path.c_str()) != CGX_OK) {
    throw UsageError(cgx_last_error());
  }
  size_t name_width = 5;
  for (const std::string& spec : options.codecs) {
    make_codec(spec);
    name_width = std::max(name_width, spec.size());
  }
  const std::vector<uint64_t> all_sizes = sizes(options);
  const Source source(options.data, options.seed);
  const json machine = environment(options);
  fmt::print(
      "# cgx-bench {} codec: one thread, cache {}, {} rounds of {} iterations after {} of warm-up, data {}, "
      "cpu path {}\n",
      cgx_version_string(), options.warm_cache ? "warm" : "cold", options.rounds, options.iterations,
      options.warmup, options.data, options.cpu_path.empty() ? "best" : options.cpu_path);
  print_environment(machine);
  const std::vector<Column> columns = {
      {"size", "(B)", 12},     {"count", "(elements)", 12}, {"type", "", 8},       {"codec", "", name_width},
      {"encode", "(us)", 9},   {"encode", "(GB/s)", 8},     {"decode", "(us)", 9}, {"decode", "(GB/s)", 8},
      {"memcpy", "(GB/s)", 8}, {"enc/cpy", "", 8},          {"dec/cpy", "", 8},    {"#wrong", "", 7},
      {"ratio", "", 7},        {"block bytes", "(B)", 11},  {"NMSE", "", 9},       {"bias z", "", 9}};
  print_header(columns);
  json rows = json::array();
  uint64_t wrong = 0;
  for (const uint64_t bytes : all_sizes) {
    const std::vector<Buffer> tensors = make_tensors(options, source, bytes);
    for (const std::string& spec : options.codecs) {
      json row = CodecRun(options, tensors, spec).measure();
      row["name"] = spec;
      print(columns, row, spec);
      wrong += row["wrong"].is_null() ? 0 : row["wrong"].get<uint64_t>();
      rows.push_back(std::move(row));
    }
  }
  fmt::print("# Out of bounds values : {} {}\n", wrong, wrong == 0 ? "OK" : "FAILED");
  write_json(options, machine, rows, {{"out_of_bounds", wrong}});
  return wrong == 0 ? 0 : 1;
}

}  // namespace cgx::bench
