/** Reads the sweep.json that `pst sweep` writes (docs: workers/README.md). */
import { intervalOf, isNode, listAt, type Node, nodeAt, numberOf, textOf } from "@/lib/tree";

const FORMAT = "sparsewright-sweep";
const ENDED = ["stopped", "finished", "failed"] as const;

export interface Trial {
  id: string;
  values: Record<string, unknown>;
  state: "queued" | "stopped" | "finished" | "failed";
  /** Share of the epochs of its longest run. */
  share: number | null;
  metric: number | null;
  interval: [number, number] | null;
  bytes: number | null;
  sparsity: number | null;
  error: string;
  /** No other whole run is both better and smaller. */
  best: boolean;
}

export interface SweepResult {
  metric: string;
  /** What was searched over, in the order of the file. */
  names: string[];
  /** The longest runs first, and among them the best. */
  trials: Trial[];
}

/** Null where the text is not a sweep's result. */
export function sweepOf(text: string): SweepResult | null {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isNode(content) || content.format !== FORMAT) return null;
  const best = listAt(content, "front");
  const trials = listAt(content, "trials")
    .filter(isNode)
    .map((found) => trialOf(found, best));
  return {
    metric: textOf(content.metric),
    names: Object.keys(nodeAt(content, "search", "values")),
    trials: trials.sort(
      (a, b) =>
        (b.share ?? 0) - (a.share ?? 0) ||
        (b.metric ?? Number.NEGATIVE_INFINITY) - (a.metric ?? Number.NEGATIVE_INFINITY),
    ),
  };
}

function trialOf(found: Node, best: unknown[]): Trial {
  const last = listAt(found, "rungs").filter(isNode).at(-1) ?? {};
  return {
    id: textOf(found.id),
    values: nodeAt(found, "values"),
    state: ENDED.find((known) => known === found.state) ?? "queued",
    share: numberOf(last.share),
    metric: numberOf(last.metric),
    interval: intervalOf(last.interval),
    bytes: numberOf(last.bytes),
    sparsity: numberOf(last.sparsity),
    error: textOf(found.error),
    best: best.includes(found.id),
  };
}
