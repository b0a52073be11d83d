// One codec on one kind of tensor: everything it does, timed beside a memcpy of the same elements. All runs
// of a table take turns in the same rounds: absolute times drift with the machine's other load, ratios do
// not.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "contender.h"
#include "data.h"
#include "options.h"

namespace cgx::bench {

// Memory that runs on the same size and type share. Warm: one buffer of each kind; cold: they rotate.
struct Tensors {
  Tensors(const Source& source, cgx_dtype type, uint64_t elements, bool in_cache);

  cgx_dtype dtype;
  uint64_t count;
  bool warm;
  std::vector<Buffer> inputs;
  std::vector<Buffer> outputs;    // fp32, or a copy of the input
  std::vector<Buffer> residuals;  // fp32
};

class CodecRun {
 public:
  enum Work { kCopy, kRead, kNthElement, kEncode, kFeedback, kMoveForFeedback, kDecode, kAdd, kWorks };

  CodecRun(const Options& options, Tensors& tensors, const std::string& spec);

  // Does everything `iterations` times; what that took is kept where `timed`.
  void round(int iterations, bool timed);
  // Sizes, times, ratios and accuracy, by the names in cgx-bench's JSON; null where there is none.
  nlohmann::json row();
  // How much faster per element than `base` in the same rounds: the median of their ratios.
  double speed_over(const CodecRun& base, Work work) const;

 private:
  bool has(Work work) const;
  void prepare(Work work);
  void once(Work work);
  void encode(size_t b, uint32_t operation);
  cgx_status encode_feedback(size_t b, uint32_t operation);
  void move_for_feedback(size_t b);
  void read(size_t b);
  void decode(size_t b);
  void add_times(nlohmann::json& row) const;
  void add_accuracy(nlohmann::json& row);

  const Options& options_;
  Tensors& tensors_;
  CodecPtr codec_;
  uint64_t bytes_;
  uint64_t block_bytes_ = 0;
  std::string no_feedback_;  // why there is none
  std::vector<Buffer> blocks_;
  uint64_t turn_ = 0;
  uint32_t sink_ = 0;                  // what reading comes to
  std::vector<double> times_[kWorks];  // of a call, in us, one a round
};

}  // namespace cgx::bench
