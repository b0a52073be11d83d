// What a collective costs: pure functions of what was measured of a machine (a Profile), so that every rank
// that has the same profile makes the same choice.
//
// A plan is a row of turns, a slice each. In a turn the processor encodes, sums and decodes, and the link
// moves bytes; while the link moves one slice the processor can work on another. So with k turns that need c
// of the processor and l of the link each, T = latencies + (c + l) + (k - 1) max(c, l): one turn is a plain
// sum, many turns cost the slower of the two. More turns overlap better and pay for more messages.
//
// With S elements, W wire bytes, n ranks, e and d the costs to encode and to decode and add an element:
//   scatter_gather  processor S (e + d (2n - 1) / n), link 2 (n - 1) / n W, two latencies
//   allgather       processor S (e + d n),            link (n - 1) W,       one latency
//   ring            as scatter_gather by neighbours,  2 (n - 1) latencies
//   hierarchical    as scatter_gather among h leaders, with the g - 1 others of a host before and behind it:
//                   leader S (e + d (2h - 1) / h + (g - 1) d'), link between hosts 2 (h - 1) / h W, inside
//                   (g - 1) (W' + W); d' and W' are those of the inner codec
//   tree            root S (e + d (c + 1)), link c W for its c children, 2 latencies a level
// A turn takes no less than its share of the latency: as deep as the pipeline is, so many slices are under
// way. d and e are not what a codec takes alone: they are fitted to collectives that were run, and so hold
// what the memory and its sharing cost (see comm/measure.h). So is what a byte takes where tensors are in
// memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "codec/layout.h"
#include "codec/spec.h"
#include "plan/plan.h"
#include "transport/transport.h"

namespace cgx {

// What an element costs depends on how many there are, and so where they come from and go to.
enum class Scale : uint8_t {
  kSmall,   // what begins and ends a call counts
  kCached,  // tensor, result and messages stay in a cache from one step of training to the next
  kMemory,
};
inline constexpr size_t kScales = 3;
Scale scale_of(uint64_t raw_bytes);

// Nanoseconds an element, on one thread.
struct ElementCost {
  double encode = 0, decode = 0;

  bool operator==(const ElementCost&) const = default;
};

struct CodecCost {
  CodecSpec spec;
  std::array<ElementCost, kScales> at = {};  // by Scale

  bool operator==(const CodecCost&) const = default;
};

// Bytes of a message, as slices at 4 bits have among eight ranks: a queue may hold one from each that
// overflows by longer ones.
inline constexpr uint64_t kShortMessage = 20 << 10;

// A machine as a communicator's ranks see it, the slowest of them for each figure. All times in nanoseconds.
struct Profile {
  int size = 1;
  int hosts = 1;
  int largest_host = 1;           // ranks of the host that has most
  double call = 0;                // what a collective costs beside all that follows
  double latency = 0;             // from one rank's sending of a small message to another's having it
  double message = 0;             // of the processor, to send one message and receive one
  double pair_byte = 0;           // a byte to one peer, while one comes from another
  double all_byte = 0;            // a byte to any peer, while all ranks send to all
  double short_byte = 0;          // the same of messages up to kShortMessage; 0: as all_byte
  double cpu_byte = 0;            // of the processor, for a byte sent and one received
  double crowding = 1;            // ranks that share a core, on the fullest host
  double inside_latency = 0;      // as `latency`, between ranks of one host
  double inside_byte = 0;         // as `all_byte`, while ranks send to those of their own host only
  double leader_byte = 0;         // as `all_byte`, while one rank of each host sends to those of the others
  double cold_links = 1;          // how many times as long a byte takes where tensors are in memory
  double one_shot = 1;            // the same of allgather's work on an element, where tensors are not small
  Transport::Links links;         // by which plans are deep; not measured here
  std::vector<CodecCost> codecs;  // none first; may be empty

  bool operator==(const Profile&) const = default;
};

// For where nothing was measured: round figures of processes on a host, or of 10 Gb/s Ethernet to each host.
// `hosts` of each rank; empty: all on one host, or each on its own.
Profile default_profile(int size, bool same_host, const std::vector<int>& hosts = {});

// Sets `hosts` and `largest_host`.
void set_hosts(const std::vector<int>& hosts, Profile* profile);

// The collective whose cost is asked for.
struct Load {
  uint64_t raw_bytes = 0;
  uint64_t wire_bytes = 0;
  double encode_ns = 0;  // to encode the whole tensor once
  double decode_ns = 0;  // to decode and add it once
  double links = 1;      // how many times as long as measured a byte takes, of the link and of the processor
  uint64_t slice_bytes = 0;
  uint64_t uncut_bytes = 0;  // on the wire, of the longest block that is cut nowhere
  // The same of messages inside a host, for algorithms that tell them apart.
  uint64_t inner_bytes = 0;
  double inner_encode_ns = 0, inner_decode_ns = 0;
};

Load load_of(const Layout& layout, const Profile& profile, uint64_t slice_bytes,
             const CodecSpec& inner_codec = {});

// PlanKey::depth: slices that fill a link of 10 Gb/s while one is on its way, and one for each connection of
// a pair, as far as 4 MiB a pair and 16 MiB a rank hold them in either direction. 1 within a machine room.
uint32_t depth_of(const Turn& turn, const Load& load, const Profile& profile);

// Nanoseconds that an allreduce takes by the algorithm of that name.
double scatter_gather_ns(const Load& load, const Profile& profile);
double allgather_ns(const Load& load, const Profile& profile);
double ring_ns(const Load& load, const Profile& profile);
double hierarchical_ns(const Load& load, const Profile& profile);
double tree_ns(const Load& load, const Profile& profile);

}  // namespace cgx
