// What a caller asks for, made into what can be run: where a codec cannot serve (integers and fp64; minima,
// maxima and products, of which a codec's error says nothing) the elements travel uncompressed instead of
// being refused. That is said once a communicator, and counted.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "codec/layout.h"
#include "plan/run.h"

namespace cgx {

enum class Spared : uint8_t { kNothing, kNotFloat, kNotSum };

struct Request {
  Layout layout;
  Spared spared = Spared::kNothing;
  uint64_t spared_elements = 0;
  std::string spared_codec;  // the first of those not used
};

// As Layout::make(), with "none" in the place of codecs that cannot serve.
Result<Request> make_request(DType dtype, ReduceOp op, uint64_t count, std::vector<Segment> segments);

// The sentence that is logged; "" where nothing was spared.
std::string explain(const Request& request, ReduceOp op);

const char* op_name(ReduceOp op);  // "sum"

}  // namespace cgx
