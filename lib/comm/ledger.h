// What was sent for which tensor. A plan sends the same bytes every time, so a call costs one increment: the
// sums are made when somebody asks. What the runs noted (plan/notes.h) comes on top, where it was asked for.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codec/layout.h"
#include "codec/spec.h"
#include "plan/notes.h"
#include "plan/plan.h"

namespace cgx {

// What one call of a plan sends, by segment.
struct PlanTally {
  struct Share {
    uint32_t tensor = 0;
    CodecSpec codec;
    uint64_t elements = 0;    // of the segment
    uint64_t raw_bytes = 0;   // of what is sent of it, had it been raw, once per receiver
    uint64_t wire_bytes = 0;  // as sent, likewise
  };
  std::vector<Share> shares;
  uint64_t calls = 0;  // that ended well, guarded by the ledger's owner
  bool listed = false;
};
std::shared_ptr<PlanTally> make_tally(const Plan& plan, const Layout& layout);

// All that is known of a tensor.
struct TensorRow {
  CodecSpec codec;  // of the latest plan
  uint64_t calls = 0;
  uint64_t elements = 0;  // of one call
  uint64_t raw_bytes = 0, wire_bytes = 0;
  uint64_t observed = 0;  // calls that the notes are of
  SegmentNotes notes;
};

struct CodecBytes {
  uint64_t raw = 0, wire = 0;
};

class Ledger {
 public:
  // A call of the plan with this tally ended well; `notes` may be null.
  void count(const std::shared_ptr<PlanTally>& tally, const RunNotes* notes);
  std::map<uint32_t, TensorRow> tensors() const;
  std::map<std::string, CodecBytes> codecs() const;  // by the codecs' names without parameters

 private:
  void close_accounts();
  static void add(const PlanTally& tally, std::map<uint32_t, TensorRow>* rows);
  static void add(const PlanTally& tally, std::map<CodecKind, CodecBytes>* codecs);

  static constexpr size_t kFewTallies = 256;

  std::vector<std::shared_ptr<PlanTally>> tallies_;  // of plans in use, and some of others
  size_t many_ = kFewTallies;                        // tallies that are worth a look for those
  std::map<uint32_t, TensorRow> past_;               // of plans that the cache has dropped; all notes
  std::map<CodecKind, CodecBytes> past_codecs_;
};

}  // namespace cgx
