// See cases.h.
#include "random/cases.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "comm/request.h"
#include "plan/algorithm_list.h"

namespace cgx::random {
namespace {

class Dice {
 public:
  explicit Dice(uint64_t seed) : random_(seed * 0x9e3779b97f4a7c15u + 1) {}
  uint64_t below(uint64_t n) { return random_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <typename T>
  const T& of(const std::vector<T>& choices) {
    return choices[below(choices.size())];
  }
  std::mt19937_64& engine() { return random_; }

 private:
  std::mt19937_64 random_;
};

const std::vector<std::string> kSpecs = {
    "none",
    "none",
    "cast:fp16",
    "cast:bf16",
    "maxmin:bits=1",
    "maxmin:bits=4",
    "maxmin:bits=4+ef",
    "maxmin:bits=2,bucket=64,rounding=nearest+ef",
    "maxmin:bits=3,bucket=0",
    "maxmin:bits=8,bucket=32",
    "maxmin:bits=5,bucket=2048",
    "maxmin:bits=6,bucket=65536",
    "dither:bits=4",
    "dither:bits=7,norm=2,bucket=128",
    "dither:bits=2,bucket=1024",
    "natdither:bits=4",
    "natdither:bits=3,norm=1,bucket=64",
    "natural",
    "natural+ef",
    "natural8",
    "topk:ratio=0.1",
    "topk:ratio=0.01+ef",
    "topk:ratio=0.05|natural",
    "topk:ratio=1|maxmin:bits=8",
    "topk:ratio=0.05,indices=packed|natural+ef",
    "randk:ratio=0.25",
    "randk:ratio=0.1|natural8",
};

// A layout of one segment, or of a few.
std::vector<Segment> make_segments(Dice& dice, uint64_t count, uint32_t tensor) {
  std::vector<Segment> segments;
  const uint64_t parts = dice.one_in(4) ? 2 + dice.below(6) : 1;
  for (uint64_t at = 0; at < count;) {
    const uint64_t left = count - at;
    const uint64_t length = segments.size() + 1 == parts ? left : 1 + dice.below(left);
    const Result<CodecSpec> spec = parse_spec(dice.of(kSpecs));
    CGX_CHECK(spec.ok());
    segments.push_back({at, length, *spec, tensor + static_cast<uint32_t>(segments.size())});
    at += length;
  }
  return segments;
}

uint64_t make_count(Dice& dice) {
  const uint64_t which = dice.below(500);
  if (which == 0) return dice.below(600000);
  if (which < 30) return dice.below(60000);
  if (which < 150) return dice.below(5000);
  if (which < 300) return dice.below(300);
  return dice.below(18);
}

Case make_case(Dice& dice, uint32_t tensor) {
  Case one;
  const std::vector<DType> halves = {DType::kF16, DType::kBF16};
  const std::vector<DType> others = {DType::kF64, DType::kI8,  DType::kU8, DType::kI16,
                                     DType::kI32, DType::kI64, DType::kF64};
  const uint64_t type = dice.below(10);
  one.dtype = type < 5 ? DType::kF32 : type < 7 ? dice.of(halves) : dice.of(others);
  if (dice.one_in(4)) one.op = static_cast<ReduceOp>(1 + dice.below(3));
  const bool whole_numbers = !is_encodable(one.dtype) && one.dtype != DType::kF64;
  one.average = one.op == ReduceOp::kSum && !whole_numbers && dice.one_in(2);
  one.in_place = dice.one_in(2);
  const uint64_t kind = dice.below(20);
  one.elements = whole_numbers || kind < 7 ? Elements::kExact
                 : kind < 19               ? Elements::kNormal
                                           : Elements::kSpecial;
  one.count = make_count(dice);
  one.segments = make_segments(dice, one.count, tensor);
  return one;
}

double make_element(Dice& dice, const Case& one, int rank, std::normal_distribution<float>& normal) {
  if (one.elements == Elements::kSpecial && dice.one_in(20)) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    const std::vector<double> special = {kInf, -kInf, std::nan(""), 0.0, -0.0, 1e-41, -1e-41, 60000.0};
    return dice.of(special);
  }
  if (one.elements != Elements::kExact) return normal(dice.engine());
  if (one.op != ReduceOp::kProd)
    return static_cast<double>(dice.below(9)) - (one.dtype == DType::kU8 ? 0.0 : 4.0);
  // Powers of two whose product is exact in bf16.
  const double magnitude = rank < 6 && dice.one_in(4) ? 2 : 1;
  return one.dtype != DType::kU8 && dice.one_in(2) ? -magnitude : magnitude;
}

template <typename T>
void put(std::vector<uint8_t>& bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at * sizeof(T), &value, sizeof(T));
}

void put_as(DType dtype, std::vector<uint8_t>& bytes, size_t at, double value) {
  switch (dtype) {
    case DType::kF32:
      return put(bytes, at, static_cast<float>(value));
    case DType::kF16:
      return put(bytes, at, static_cast<uint16_t>(f32_to_f16(static_cast<float>(value))));
    case DType::kBF16:
      return put(bytes, at, static_cast<uint16_t>(f32_to_bf16(static_cast<float>(value))));
    case DType::kF64:
      return put(bytes, at, value);
    case DType::kI8:
      return put(bytes, at, static_cast<int8_t>(value));
    case DType::kU8:
      return put(bytes, at, static_cast<uint8_t>(value));
    case DType::kI16:
      return put(bytes, at, static_cast<int16_t>(value));
    case DType::kI32:
      return put(bytes, at, static_cast<int32_t>(value));
    case DType::kI64:
      return put(bytes, at, static_cast<int64_t>(value));
  }
}

}  // namespace

std::string World::words() const {
  return fmt::format("world {}: {} {} over {}, algorithm {}{}{}{}", seed, size,
                     processes ? "processes" : "threads", transport, algorithm,
                     hosts.empty() ? "" : fmt::format(", hosts {}", fmt::join(hosts, " ")),
                     inner_codec.empty() ? "" : ", inner codec " + inner_codec,
                     slice_bytes == 0 ? "" : fmt::format(", slices of {}", slice_bytes));
}

std::string Case::words() const {
  std::string codecs;
  for (const Segment& s : segments) codecs += fmt::format(" {}x{}", s.count, to_string(s.spec));
  return fmt::format("{} {} of {}{}, elements of kind {}:{}", count, dtype_name(dtype),
                     average ? "avg" : op_name(op), in_place ? " in place" : "", static_cast<int>(elements),
                     codecs);
}

World make_world(uint64_t seed, const std::vector<std::string>& transports) {
  Dice dice(seed);
  World world;
  world.seed = seed;
  world.transport = dice.of(transports);
  world.processes = world.transport != "local" && dice.one_in(2);
  const uint64_t largest = world.transport == "local" ? 16 : 7;
  world.size = static_cast<int>(dice.one_in(3) ? 1 + dice.below(largest) : 2 + dice.below(4));
  const size_t row = dice.below(algorithms().size() + 1);
  world.algorithm = row == algorithms().size() ? "auto" : algorithms()[row].name;
  const std::vector<uint64_t> slices = {0, 0, 1024, 4096, 65536};
  world.slice_bytes = dice.of(slices);
  world.threads = dice.one_in(8) ? 2 : 1;
  // Only sockets believe in hosts that are named.
  if (world.transport == "tcp" && dice.one_in(2)) {
    const uint64_t several = 1 + dice.below(4);
    for (int r = 0; r < world.size; ++r) world.hosts.push_back(static_cast<int>(dice.below(several)));
  }
  const std::vector<std::string> inner = {"", "", "maxmin:bits=8", "cast:bf16", "maxmin:bits=6,bucket=0"};
  world.inner_codec = dice.of(inner);
  return world;
}

std::vector<Case> make_cases(const World& world, uint64_t cases) {
  Dice dice(world.seed ^ 0x5eed);
  std::vector<Case> all;
  uint64_t offset = 0;
  for (uint64_t i = 0; i < cases; ++i) {
    // Some tensors come again, so that residuals meet them.
    const bool again = i > 0 && dice.one_in(8);
    all.push_back(again ? all.back() : make_case(dice, static_cast<uint32_t>(16 * i)));
    all.back().offset = offset;
    offset += (all.back().bytes() + 63) / 64 * 64;
  }
  return all;
}

std::vector<uint8_t> make_input(const World& world, const Case& one, size_t index, int rank) {
  Dice dice(world.seed * 1000003 + index * 17 + static_cast<uint64_t>(rank));
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<uint8_t> bytes(one.bytes());
  for (uint64_t i = 0; i < one.count; ++i) put_as(one.dtype, bytes, i, make_element(dice, one, rank, normal));
  return bytes;
}

}  // namespace cgx::random
