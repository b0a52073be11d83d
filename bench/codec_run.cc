#include "codec_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>

#include "accuracy.h"
#include "report.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

constexpr const char* kNames[CodecRun::kWorks] = {
    "memcpy", "read",      "nth_element", "encode", "encode_feedback", "move_for_feedback",
    "decode", "decode_add"};

double median_ratio(const std::vector<double>& numerator, const std::vector<double>& denominator) {
  std::vector<double> ratios;
  for (size_t r = 0; r < numerator.size(); ++r) ratios.push_back(numerator[r] / denominator[r]);
  return median(ratios);
}

void check_span(const DeclaredBound& bound, const Tensors& tensors, size_t b, uint64_t first, uint64_t count,
                Accuracy& accuracy) {
  Expected expected;
  expected.exact.resize(count);
  to_doubles(tensors.dtype,
             static_cast<const char*>(tensors.inputs[b].data()) + first * dtype_bytes(tensors.dtype),
             expected.exact);
  for (const double x : expected.exact) expected.bound.push_back({x, x});
  bound.widen(expected.bound);
  std::vector<double> result(count);
  to_doubles(CGX_FLOAT32, static_cast<const float*>(tensors.outputs[b].data()) + first, result);
  accuracy.add(result, expected);
}

}  // namespace

Tensors::Tensors(const Source& source, cgx_dtype type, uint64_t elements, bool in_cache)
    : dtype(type), count(elements), warm(in_cache) {
  const uint64_t bytes = count * dtype_bytes(dtype);
  const int buffers = warm ? 1 : rotation(bytes);
  for (int b = 0; b < buffers; ++b) {
    inputs.emplace_back(bytes);
    source.fill(0, b, 0, count, dtype, inputs.back().data());
    outputs.emplace_back(std::max(count * sizeof(float), bytes));
    residuals.emplace_back(count * sizeof(float));
  }
}

CodecRun::CodecRun(const Options& options, Tensors& tensors, const std::string& spec)
    : options_(options),
      tensors_(tensors),
      codec_(make_codec(spec)),
      bytes_(tensors.count * dtype_bytes(tensors.dtype)) {
  require_ok(cgx_codec_encoded_bytes(codec_.get(), tensors.dtype, tensors.count, &block_bytes_), spec);
  for (size_t b = 0; b < tensors.inputs.size(); ++b) {
    blocks_.emplace_back(block_bytes_);
    std::memset(tensors.residuals[b].data(), 0, tensors.residuals[b].bytes());
    if (encode_feedback(b, 0) != CGX_OK) no_feedback_ = cgx_last_error();
    encode(b, 0);
  }
}

// Only top-k of raw values and plain indices says how many elements it keeps (8 bytes each); that is what
// nth_element selects.
bool CodecRun::has(Work work) const {
  const std::string spec = cgx_codec_spec(codec_.get());
  if (work == kFeedback) return no_feedback_.empty();
  if (work == kMoveForFeedback) return no_feedback_.empty() && tensors_.dtype == CGX_FLOAT32;
  if (work != kNthElement && work != kRead) return true;
  const bool plain = spec.find('|') == std::string::npos && spec.find("indices=") == std::string::npos;
  return spec.starts_with("topk") && plain && tensors_.dtype == CGX_FLOAT32 && block_bytes_ < bytes_;
}

void CodecRun::encode(size_t b, uint32_t operation) {
  const cgx_random_key key = {options_.seed, operation, 0, 0};
  require_ok(cgx_codec_encode(codec_.get(), tensors_.dtype, tensors_.inputs[b].data(), tensors_.count, &key,
                              blocks_[b].data(), block_bytes_),
             "encode");
}

cgx_status CodecRun::encode_feedback(size_t b, uint32_t operation) {
  const cgx_random_key key = {options_.seed, operation, 0, 0};
  return cgx_codec_encode_feedback(codec_.get(), tensors_.dtype, tensors_.inputs[b].data(), tensors_.count,
                                   &key, static_cast<float*>(tensors_.residuals[b].data()), blocks_[b].data(),
                                   block_bytes_);
}

// What encoding with error feedback has to read and write, and nothing else of it: the tensor and the
// residual read, the residual and as many bytes as the block has written (into the output, as the block is
// still needed).
void CodecRun::move_for_feedback(size_t b) {
  constexpr uint64_t kLine = 16, kAhead = 768, kTile = 4096;
  const float* x = static_cast<const float*>(tensors_.inputs[b].data());
  float* residual = static_cast<float*>(tensors_.residuals[b].data());
  uint8_t* block = static_cast<uint8_t*>(tensors_.outputs[b].data());
  const uint64_t bytes = std::min<uint64_t>(block_bytes_, tensors_.outputs[b].bytes());
  for (uint64_t at = 0; at < tensors_.count; at += kTile) {
    const uint64_t end = std::min(at + kTile, tensors_.count);
    for (uint64_t i = at; i < end; i += kLine) {
      __builtin_prefetch(x + i + kAhead);
      __builtin_prefetch(residual + i + kAhead);
      for (uint64_t j = i; j < std::min(i + kLine, end); ++j) residual[j] += x[j];
    }
    const uint64_t first = at * bytes / tensors_.count;
    std::memset(block + first, 0, end * bytes / tensors_.count - first);
  }
}

// What selecting has to read, and nothing else of it.
void CodecRun::read(size_t b) {
  constexpr uint64_t kLine = 16, kAhead = 768;
  const uint32_t* x = static_cast<const uint32_t*>(tensors_.inputs[b].data());
  uint32_t bits[kLine] = {};
  for (uint64_t i = 0; i + kLine <= tensors_.count; i += kLine) {
    __builtin_prefetch(x + i + kAhead);
    for (uint64_t j = 0; j < kLine; ++j) bits[j] |= x[i + j];
  }
  for (const uint32_t word : bits) sink_ |= word;
}

void CodecRun::decode(size_t b) {
  require_ok(cgx_codec_decode(codec_.get(), tensors_.dtype, blocks_[b].data(), block_bytes_, tensors_.count,
                              static_cast<float*>(tensors_.outputs[b].data())),
             "decode");
}

// What must not be timed: another codec's residual, the copy that nth_element reorders.
void CodecRun::prepare(Work work) {
  const size_t b = turn_ % tensors_.inputs.size();
  if (work == kFeedback) {
    for (Buffer& residual : tensors_.residuals) std::memset(residual.data(), 0, residual.bytes());
  }
  if (work == kNthElement) {
    const float* x = static_cast<const float*>(tensors_.inputs[b].data());
    std::transform(x, x + tensors_.count, static_cast<float*>(tensors_.outputs[b].data()),
                   [](float v) { return std::fabs(v); });
  }
}

void CodecRun::once(Work work) {
  const size_t b = turn_++ % tensors_.inputs.size();
  const auto operation = static_cast<uint32_t>(turn_);
  float* out = static_cast<float*>(tensors_.outputs[b].data());
  switch (work) {
    case kEncode:
      return encode(b, operation);
    case kFeedback:
      return require_ok(encode_feedback(b, operation), "encode with error feedback");
    case kMoveForFeedback:
      return move_for_feedback(b);
    case kRead:
      return read(b);
    case kDecode:
      return decode(b);
    case kAdd:
      return require_ok(cgx_codec_decode_add(codec_.get(), tensors_.dtype, blocks_[b].data(), block_bytes_,
                                             tensors_.count, out),
                        "decode and add");
    case kNthElement:
      std::nth_element(out, out + block_bytes_ / 8 - 1, out + tensors_.count, std::greater<>());
      return;
    default:
      std::memcpy(out, tensors_.inputs[b].data(), bytes_);
  }
}

void CodecRun::round(int iterations, bool timed) {
  for (int w = 0; w < kWorks; ++w) {
    const auto work = static_cast<Work>(w);
    if (!has(work)) continue;
    if (tensors_.warm && work != kNthElement) once(work);
    prepare(work);
    const int calls = work == kNthElement ? 1 : iterations;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < calls; ++i) once(work);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    if (timed) times_[work].push_back(took.count() / calls);
  }
}

double CodecRun::speed_over(const CodecRun& base, Work work) const {
  return median_ratio(base.times_[work], times_[work]);
}

json CodecRun::row() {
  json row = {{"size_bytes", bytes_},
              {"count", tensors_.count},
              {"type", dtype_name(tensors_.dtype)},
              {"codec", cgx_codec_spec(codec_.get())},
              {"unbiased", cgx_codec_unbiased(codec_.get()) != 0},
              {"encoded_bytes", block_bytes_},
              {"ratio", static_cast<double>(bytes_) / static_cast<double>(block_bytes_)},
              {"cache", tensors_.warm ? "warm" : "cold"}};
  add_times(row);
  add_accuracy(row);
  return row;
}

void CodecRun::add_times(json& row) const {
  for (int work = 0; work < kWorks; ++work) {
    const std::string name = kNames[work];
    const bool done = has(static_cast<Work>(work));
    row[name + "_us"] = done ? json(median(times_[work])) : json(nullptr);
    row[name + "_GBps"] =
        done ? json(static_cast<double>(bytes_) / median(times_[work]) / 1000) : json(nullptr);
  }
  row["encode_over_memcpy"] = median_ratio(times_[kCopy], times_[kEncode]);
  row["decode_over_memcpy"] = median_ratio(times_[kCopy], times_[kDecode]);
  row["decode_add_over_memcpy"] = median_ratio(times_[kCopy], times_[kAdd]);
  row["feedback_cost"] = nullptr;   // of encode's time, more
  row["feedback_least"] = nullptr;  // the same of moving its bytes, and nothing else
  if (has(kFeedback)) {
    row["feedback_cost"] = median_ratio(times_[kFeedback], times_[kEncode]) - 1;
    if (has(kMoveForFeedback))
      row["feedback_least"] = median_ratio(times_[kMoveForFeedback], times_[kEncode]) - 1;
  } else {
    row["no_feedback"] = no_feedback_;
  }
  row["encode_over_nth_element"] = nullptr;
  row["read_over_nth_element"] = nullptr;  // no exact selection is faster than reading
  if (has(kNthElement)) {
    row["encode_over_nth_element"] = median_ratio(times_[kNthElement], times_[kEncode]);
    row["read_over_nth_element"] = median_ratio(times_[kNthElement], times_[kRead]);
  }
}

void CodecRun::add_accuracy(json& row) {
  Accuracy accuracy;
  for (int c = 0; c < options_.checks; ++c) {
    const DeclaredBound bound(cgx_codec_spec(codec_.get()), tensors_.dtype);
    const uint64_t span = bound.granule() == 0 ? tensors_.count : 1 << 20;
    const size_t b = static_cast<size_t>(c) % tensors_.inputs.size();
    encode(b, 1000000 + static_cast<uint32_t>(c));
    decode(b);
    for (uint64_t at = 0; at < tensors_.count; at += span) {
      check_span(bound, tensors_, b, at, std::min(span, tensors_.count - at), accuracy);
    }
  }
  const bool checked = options_.checks > 0;
  row["wrong"] = checked ? json(accuracy.wrong) : json(nullptr);
  row["nmse"] = checked ? json(accuracy.nmse()) : json(nullptr);
  row["bias_z"] = checked ? json(accuracy.bias_z()) : json(nullptr);
}

}  // namespace cgx::bench
