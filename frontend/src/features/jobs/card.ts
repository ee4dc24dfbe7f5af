import { numberOf } from "./record";

/** The figures of a job's report that the page shows; the report itself is the library's (report.json). */
export interface ReportCard {
  split: "test" | "validation";
  accuracy: Pair & { interval: [number, number] | null };
  macroF1: Pair;
  sparsity: { reached: number | null; target: number | null };
  params: { nonzero: number | null; total: number | null };
  bytes: Pair;
  agreement: number | null;
  seconds: [phase: string, seconds: number][];
}

interface Pair {
  dense: number | null;
  sparse: number | null;
}

type Node = Record<string, unknown>;

function at(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>((node, key) => (isNode(node) ? node[key] : undefined), value);
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads the report; what it lacks is null. The test split counts where there is one. */
export function cardOf(report: unknown): ReportCard {
  const split = isNode(at(report, "metrics", "test")) ? "test" : "validation";
  const sparse = at(report, "metrics", split);
  const dense = at(report, "dense", split);
  const pair = (name: string): Pair => ({ dense: numberOf(at(dense, name)), sparse: numberOf(at(sparse, name)) });
  const interval = at(sparse, "interval");
  const [low, high] = Array.isArray(interval) ? interval.map(numberOf) : [];
  return {
    split,
    accuracy: { ...pair("accuracy"), interval: low != null && high != null ? [low, high] : null },
    macroF1: pair("macro_f1"),
    sparsity: {
      reached: numberOf(at(report, "sparsity", "reached")),
      target: numberOf(at(report, "sparsity", "target")),
    },
    params: { nonzero: numberOf(at(report, "params", "nonzero")), total: numberOf(at(report, "params", "total")) },
    bytes: { dense: numberOf(at(report, "bytes", "dense")), sparse: numberOf(at(report, "bytes", "sparse")) },
    agreement: numberOf(at(report, "agreement")),
    seconds: Object.entries(isNode(at(report, "seconds")) ? (at(report, "seconds") as Node) : {}).flatMap(
      ([phase, value]) => (numberOf(value) === null ? [] : [[phase, value as number] as [string, number]]),
    ),
  };
}
