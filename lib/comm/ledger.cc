// See ledger.h.
#include "comm/ledger.h"

#include <algorithm>

#include "codec/codec_row.h"

namespace cgx {

std::shared_ptr<PlanTally> make_tally(const Plan& plan, const Layout& layout) {
  auto tally = std::make_shared<PlanTally>();
  tally->shares.reserve(layout.segments().size());
  const size_t element_bytes = dtype_bytes(layout.dtype());
  for (const Segment& segment : layout.segments()) {
    tally->shares.push_back({segment.tensor_id, segment.spec, segment.count, 0, 0});
  }
  std::vector<Piece> pieces;
  for (const Step& step : plan.steps) {
    if (step.op != Step::Op::kSend) continue;
    const Message& message = plan.messages[step.message];
    plan.layout(message.level, layout).pieces(message.begin, message.end, &pieces);
    for (size_t i = 0; i < pieces.size(); ++i) {
      const Piece& piece = pieces[i];
      // What aligns the next block counts as this one's.
      const uint64_t next = i + 1 < pieces.size() ? pieces[i + 1].wire_offset : message.bytes;
      PlanTally::Share& share = tally->shares[piece.segment];
      share.raw_bytes += (piece.end - piece.begin) * element_bytes * step.peers.size();
      share.wire_bytes += (next - piece.wire_offset) * step.peers.size();
    }
  }
  return tally;
}

void Ledger::count(const std::shared_ptr<PlanTally>& tally, const RunNotes* notes) {
  if (!tally->listed) {
    if (tallies_.size() >= many_) close_accounts();
    tallies_.push_back(tally);
    tally->listed = true;
  }
  ++tally->calls;
  if (notes == nullptr) return;
  for (size_t i = 0; i < tally->shares.size(); ++i) {
    TensorRow& row = past_[tally->shares[i].tensor];
    ++row.observed;
    row.notes.add(notes->segments[i]);
  }
}

// Of plans that the cache has dropped.
void Ledger::close_accounts() {
  const auto dropped =
      std::partition(tallies_.begin(), tallies_.end(), [](const auto& one) { return one.use_count() > 1; });
  for (auto it = dropped; it != tallies_.end(); ++it) {
    add(**it, &past_);
    add(**it, &past_codecs_);
  }
  tallies_.erase(dropped, tallies_.end());
  many_ = kFewTallies + 2 * tallies_.size();
}

void Ledger::add(const PlanTally& tally, std::map<uint32_t, TensorRow>* rows) {
  for (const PlanTally::Share& share : tally.shares) {
    TensorRow& row = (*rows)[share.tensor];
    row.codec = share.codec;
    row.elements = share.elements;
    row.calls += tally.calls;
    row.raw_bytes += share.raw_bytes * tally.calls;
    row.wire_bytes += share.wire_bytes * tally.calls;
  }
}

void Ledger::add(const PlanTally& tally, std::map<CodecKind, CodecBytes>* codecs) {
  for (const PlanTally::Share& share : tally.shares) {
    CodecBytes& bytes = (*codecs)[share.codec.kind];
    bytes.raw += share.raw_bytes * tally.calls;
    bytes.wire += share.wire_bytes * tally.calls;
  }
}

std::map<uint32_t, TensorRow> Ledger::tensors() const {
  std::map<uint32_t, TensorRow> rows = past_;
  for (const auto& tally : tallies_) add(*tally, &rows);
  return rows;
}

std::map<std::string, CodecBytes> Ledger::codecs() const {
  std::map<CodecKind, CodecBytes> codecs = past_codecs_;
  for (const auto& tally : tallies_) add(*tally, &codecs);
  std::map<std::string, CodecBytes> named;
  for (const auto& [kind, bytes] : codecs) named[codec_row(kind).name] = bytes;
  return named;
}

}  // namespace cgx
