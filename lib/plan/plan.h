// A collective as data. A plan is one rank's straight-line program over its tensor and a list of
// messages; an algorithm is a pure function PlanKey -> Plan and sees no memory, bytes, threads or clock.
//
// Words. *chunk*: the part of the tensor that one rank owns (sums). *slice*: a pipelined piece of a
// chunk. *message*: the encoded blocks of one range of elements, written once, sent to one or several
// peers or received from one. *stage*: which rounding of an element on its way (0: the contribution);
// it keys the random numbers, and names the residual. *level*: by which of two layouts a message is encoded,
// the tensor's own or that of messages inside a host.
//
// Values. Every rank holds an input x and an output y over [0, count); they may be the same memory.
// A step that reads x[range] must come before any step that writes y[range].
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "codec/layout.h"

namespace cgx {

inline constexpr uint32_t kNoMessage = UINT32_MAX;
inline constexpr uint32_t kNoStep = UINT32_MAX;
inline constexpr uint32_t kOwnInput = UINT32_MAX - 1;  // in Step::inputs: this rank's x (+ residual)

enum class Level : uint8_t {
  kMain,   // the tensor's layout
  kInner,  // Plan::inner
};

struct Message {
  uint64_t begin = 0, end = 0;  // elements of the tensor whose blocks it holds
  uint64_t bytes = 0;
  Level level = Level::kMain;
};

struct Step {
  enum class Op : uint8_t {
    kEncode,        // message <- encode(x[range] + residual), rounding `stage`
    kSend,          // message -> peers; this rank may still read it until kRelease
    kPost,          // announce that the next message from peers[0] will be `message`
    kReceive,       // wait for the oldest posted message of peers[0], which is `message`
    kReduceEncode,  // sum of inputs in the order given (times scale if `last`) -> encode -> message;
                    // if `last`: y[range] <- decode(message). One pass.
    kReduce,        // y[range] <- sum of inputs in the order given, times scale; no rounding
    kDecode,        // y[range] <- decode(message)
    kForward,       // message <- the bytes of inputs[0]
    kRelease,       // no step reads `message` any more; its memory may be used again
  };
  Op op;
  uint8_t stage = 0;
  bool last = false;
  uint32_t message = kNoMessage;
  uint64_t begin = 0, end = 0;
  std::vector<uint32_t> inputs;  // messages or kOwnInput
  std::vector<int> peers;
};

struct Plan {
  std::vector<Message> messages;
  std::vector<Step> steps;
  std::vector<const char*> phases;   // a word a step, for errors (phases.h)
  std::vector<uint32_t> first_send;  // of each message: the step that first sends it, or kNoStep
  Layout inner;  // of the messages with Level::kInner: the tensor's, with other codecs; empty without any

  const Layout& layout(Level level, const Layout& main) const { return level == Level::kMain ? main : inner; }
};

struct PlanKey {
  int rank = 0;
  int size = 1;
  Layout layout;
  uint64_t slice_bytes = 256 << 10;  // of raw elements; slices stay in L2
  std::vector<int> hosts = {};       // of each rank, any numbers; empty: all are on one
  CodecSpec inner_codec = {};        // for messages inside a host, of algorithms that tell them apart
  uint32_t depth = 1;  // slices that a rank goes on with while one is on its way: the longer that
                       // takes, the more. The same on all ranks

  bool operator==(const PlanKey&) const = default;
};

struct Load;
struct Profile;

// What of an algorithm its pipeline's depth depends on.
struct Turn {
  int peers;                    // ranks that one exchanges a slice with in a turn
  int chunks;                   // of a tensor, each of which is cut into slices
  bool among;                   // these are cut by slice_among()
  uint32_t deepest_inside = 1;  // whose messages fit the memory that ranks of a host share
};

// One row of the list of algorithms (algorithm_list.h).
struct Algorithm {
  const char* name;
  const char* summary;  // one sentence, printed by cgx-bench --help and in README
  // How many encodings by the tensor's own codec lie between an element of some rank's input and the output,
  // at most, where `size` ranks stand on `hosts` hosts.
  int (*roundings)(int size, int hosts);
  Turn (*turn)(int size, int hosts);
  Plan (*plan)(const PlanKey& key);
  // What it takes, in nanoseconds, by cost.h; null: it is run only where it is named.
  double (*cost_ns)(const Load& load, const Profile& profile) = nullptr;
};

}  // namespace cgx
