import { at, intervalOf, nodeAt, numberOf, textOf } from "@/lib/tree";

export interface Quality {
  metric: string;
  split: "test" | "validation";
  value: number;
  /** 95 %. */
  interval: [number, number] | null;
  /** People read it in percent. */
  share: boolean;
}

/** People read it in percent. */
export const isShare = (metric: string) => /accuracy|f1/.test(metric);

/** The primary metric of a version's report, of the test rows where there are some. */
export function qualityOf(report: unknown): Quality | null {
  const metric = textOf(at(report, "primary")) || "accuracy";
  for (const split of ["test", "validation"] as const) {
    const found = nodeAt(report, "metrics", split);
    const value = numberOf(found[metric]);
    if (value === null) continue;
    const interval = intervalOf(at(found, "intervals", metric) ?? found.interval);
    return { metric, split, value, interval, share: isShare(metric) };
  }
  return null;
}
